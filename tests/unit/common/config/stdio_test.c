/* stdio: references, commands, desktop clients' lists, and when two children are the same. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/config.h"
#include "common/config/reference.h"

static const char head[] = "listen: [{address: '127.0.0.1:1'}]\nroutes: {/a: {upstream: a}}\n";

static struct config *parse(const char *upstreams, const struct config_defaults *defaults)
{
	struct buffer text = {0};
	struct config_errors errors;
	struct config *config = NULL;

	cr_assert_eq(buffer_printf(&text, 65536, "%s%s", head, upstreams), 0);
	if (config_parse(buffer_span(&text), defaults, &config, &errors)) {
		cr_log_error("%s: %s", errors.rows[0].key, errors.rows[0].problem);
		config_errors_free(&errors);
	}
	buffer_release(&text);
	cr_assert_not_null(config);
	return config;
}

static const char *expand(const char *text)
{
	static char result[300];
	struct buffer out = {0};
	char why[256];

	if (reference_expand(text, &out, why, sizeof(why)))
		snprintf(result, sizeof(result), "! %s", why);
	else
		snprintf(
		    result, sizeof(result), "%.*s", (int)buffer_length(&out), buffer_span(&out).p);
	buffer_release(&out);
	return result;
}

Test(stdio, references_are_resolved_and_others_explained)
{
	char path[] = "/tmp/margay-reference-XXXXXX", text[128];
	int fd = mkstemp(path);

	cr_assert_eq(write(fd, "secret\r\n\n", 9), 9);
	setenv("MARGAY_TEST", "value", 1);
	cr_expect_str_eq(expand("plain $ {x} $$"), "plain $ {x} $$");
	cr_expect_str_eq(expand("a${env:MARGAY_TEST}b${env:MARGAY_TEST}"), "avaluebvalue");
	cr_expect_str_eq(expand("$${env:X}$$${env:X}"), "${env:X}$${env:X}");
	snprintf(text, sizeof(text), "<${file:%s}>", path);
	cr_expect_str_eq(expand(text), "<secret>");
	cr_expect_str_eq(
	    expand("${env:MARGAY_NOT_SET}"), "! `${env:MARGAY_NOT_SET}`: the variable is not set");
	cr_expect_str_eq(
	    expand("${file:/nonexistent}"), "! `${file:/nonexistent}`: No such file or directory");
	cr_expect_str_eq(expand("${file:/dev}"), "! `${file:/dev}`: is no regular file");
	cr_expect(strstr(expand("${HOME}"), "is no reference"));
	cr_expect(strstr(expand("${env:X"), "no closing brace"));
	close(fd);
	unlink(path);
}

Test(stdio, a_command_is_found_in_the_path_when_the_file_is_read)
{
	setenv("PATH", "relative:/nonexistent:/usr/bin:/bin", 1);
	struct config *c = parse("upstreams: {a: {stdio: {command: sh, args: ['', x]}}}\n", NULL);
	const struct config_stdio *s = &c->upstreams[0].stdio;

	cr_expect_eq(c->upstreams[0].kind, CONFIG_STDIO);
	cr_expect_eq(s->command[0], '/');
	cr_expect_eq(s->arg_count, 2);
	cr_expect_str_eq(s->args[0], "");
	cr_expect_eq(s->sharing, CONFIG_PER_SESSION);
	cr_expect_eq(s->children, 100);
	cr_expect_eq(s->line, 4u << 20);
	config_free(c);
}

Test(stdio, what_was_checked_is_not_looked_at_again)
{
	static const struct config_defaults checked = {.checked = true};
	struct config *c = parse("upstreams: {a: {stdio: {command: /gone/since, args: "
				 "['${file:/gone/too}']}}}\n",
	    &checked);

	cr_expect_str_eq(c->upstreams[0].stdio.command, "/gone/since");
	config_free(c);
}

Test(stdio, only_what_a_child_is_started_by_makes_it_another)
{
	static const struct {
		const char *stdio;
		bool same;
	} rows[] = {
	    {"{command: /bin/sh, args: [a, b], env: {K: v}}", true},
	    {"{command: /bin/sh, args: [a, b], env: {K: v}, idle_timeout: 1h, restart: {failures: "
	     "9}, limits: {children: 3, line: 1MiB}}",
		true},
	    {"{command: /bin/cat, args: [a, b], env: {K: v}}", false},
	    {"{command: /bin/sh, args: [ab], env: {K: v}}", false},
	    {"{command: /bin/sh, args: [a, b, ''], env: {K: v}}", false},
	    {"{command: /bin/sh, args: [a, b], env: {K: w}}", false},
	    {"{command: /bin/sh, args: [a, b], env: {K: v}, cwd: /tmp}", false},
	    {"{command: /bin/sh, args: [a, b], env: {K: v}, inherit: [X]}", false},
	    {"{command: /bin/sh, args: [a, b], env: {K: v}, sharing: shared}", false},
	    {"{command: /bin/sh, args: [a, b], env: {K: v}, limits: {memory: 1GiB}}", false},
	};
	char first[CONFIG_SHA256_TEXT], other[CONFIG_SHA256_TEXT], text[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(text, sizeof(text), "upstreams: {a: {stdio: %s}}\n", rows[i].stdio);
		struct config *c = parse(text, NULL);
		config_stdio_digest(&c->upstreams[0].stdio, i == 0 ? first : other);
		if (i > 0)
			cr_expect_eq(strcmp(first, other) == 0, rows[i].same, "%s", rows[i].stdio);
		config_free(c);
	}
}

Test(stdio, a_desktop_clients_list_is_read_as_it_is)
{
	static const char list[] =
	    "{\n\t\"mcpServers\": {\n\t\t\"one\": {\n\t\t\t\"command\": \"sh\",\n\t\t\t\"args\": "
	    "[\"-c\", \"x\"],\n\t\t\t\"env\": {\"A\": \"1\"},\n\t\t\t\"alwaysAllow\": []\n\t\t},\n"
	    "\t\t\"two\": {\"type\": \"http\", \"url\": \"http://127.0.0.1:9/x\", \"headers\": "
	    "{\"Authorization\": \"Bearer t\", \"X-Y\": \"z\"}},\n"
	    "\t\t\"three\": {\"command\": \"/nonexistent\", \"disabled\": true}\n\t}\n}\n";
	static const struct config_defaults defaults = {
	    .runtime_dir = "/tmp/x", .listen = "127.0.0.1:8080", .quiet = true};
	struct config_errors errors;
	struct config *c;

	cr_assert_eq(config_parse(SPAN(list), &defaults, &c, &errors), 0);
	cr_assert_eq(c->upstream_count, 2);
	cr_assert_eq(c->route_count, 2);
	cr_expect_str_eq(c->routes[0].path, "/one/mcp");
	cr_expect_str_eq(c->upstreams[0].stdio.env[0].value, "1");
	cr_expect_str_eq(c->upstreams[1].headers, "Authorization: Bearer t\r\nX-Y: z\r\n");
	cr_expect_str_eq(c->runtime_dir, "/tmp/x");
	cr_expect_str_eq(c->listens[0].address.text, "127.0.0.1:8080");
	cr_expect_not(c->log.access);
	config_free(c);
}
