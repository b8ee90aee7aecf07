/* config: a whole file, its defaults, and what is derived from it. */
#include "common/config/config.h"

#include <criterion/criterion.h>
#include <errno.h>

static const char sample[] = "runtime_dir: /tmp/x\n"
			     "workers: 3\n"
			     "listen:\n"
			     "  - address: 127.0.0.1:8080\n"
			     "    origins: [\"https://app.example\"]\n"
			     "  - {address: \"[::1]:8080\"}\n"
			     "admin: {address: \"*:9090\"}\n"
			     "upstreams:\n"
			     "  one: {http: {url: \"http://Example.COM:81/mcp?x=1\"}}\n"
			     "  two: {http: {url: \"http://[::1]\"}}\n"
			     "routes:\n"
			     "  /mcp: {upstream: two}\n"
			     "limits: {body_size: 1MiB}\n"
			     "timeouts: {upstream_connect: 1500ms, upstream_total: 0}\n"
			     "log: {level: debug, format: text, file: /tmp/x/log, access: false}\n";

Test(config, takes_what_is_written_and_defaults_for_the_rest)
{
	struct config *c;
	struct config_errors errors;

	cr_assert_eq(config_parse((struct span){sample, sizeof(sample) - 1}, NULL, &c, &errors), 0);
	cr_assert_str_eq(c->runtime_dir, "/tmp/x");
	cr_assert_null(c->user);
	cr_assert_eq(c->workers, 3);
	cr_assert_eq(c->listen_count, 2);
	cr_assert_str_eq(c->listens[0].origins[0], "https://app.example");
	cr_assert(c->has_admin);
	cr_assert_str_eq(c->admin.address.text, "*:9090");
	cr_assert_eq(c->admin.address.line, 7);
	cr_assert_str_eq(c->listens[1].address.key, "listen[1].address");
	cr_assert_eq(c->listens[1].address.line, 6);
	cr_assert_eq(c->upstream_count, 2);
	cr_assert_str_eq(c->upstreams[0].host, "example.com");
	cr_assert_eq(c->upstreams[0].port, 81);
	cr_assert_str_eq(c->upstreams[0].target, "/mcp?x=1");
	cr_assert_str_eq(c->upstreams[0].authority, "example.com:81");
	cr_assert_str_eq(c->upstreams[1].host, "::1");
	cr_assert_eq(c->upstreams[1].port, 80);
	cr_assert_str_eq(c->upstreams[1].target, "/");
	cr_assert_str_eq(c->upstreams[1].authority, "[::1]");
	cr_assert_eq(c->routes[0].upstream, 1);
	cr_assert_eq(c->limits.body_size, 1024 * 1024);
	cr_assert_eq(c->limits.header_size, 16 * 1024);
	cr_assert_float_eq(c->timeouts.upstream_connect, 1.5, 1e-9);
	cr_assert_eq(c->timeouts.upstream_total, 0);
	cr_assert_float_eq(c->timeouts.client_idle, 75, 1e-9);
	cr_assert_eq(c->sessions.max, 100000);
	cr_assert_eq(c->log.level, LOG_LEVEL_DEBUG);
	cr_assert_eq(c->log.format, LOG_FORMAT_TEXT);
	cr_assert_not(c->log.access);
	config_free(c);
}

Test(config, tells_all_errors_at_once_in_the_order_of_lines)
{
	static const char text[] = "runtime_dir: /tmp/x\n"
				   "wrokers: 3\n"
				   "listen: [{address: nowhere}]\n"
				   "upstreams: {one: {http: {url: \"ftp://x\"}}}\n"
				   "routes:\n"
				   "  mcp: {upstream: on}\n"
				   "timeouts: {client_idle: 75}\n";
	static const char expected[] =
	    "x.yaml:2: wrokers: is no known key; did you mean `workers`?\n"
	    "x.yaml:3: listen[0].address: `nowhere` is no address; write HOST:PORT with an IPv4 "
	    "address, an IPv6 "
	    "address in brackets, localhost or *, and a port from 1 to 65535\n"
	    "x.yaml:4: upstreams.one.http.url: `ftp://x` does not begin with http://; write "
	    "http://HOST[:PORT]/PATH\n"
	    "x.yaml:6: routes.mcp: is no path; begin with /, use visible ASCII without ? and #, at "
	    "most 127 characters\n"
	    "x.yaml:6: routes.mcp.upstream: `on` is no upstream; did you mean `one`?\n"
	    "x.yaml:7: timeouts.client_idle: `75` is no duration; write a number with ms, s, m, h "
	    "or d, as in 30s\n";
	struct config *c;
	struct config_errors errors;
	struct buffer out = {0};

	cr_assert_eq(
	    config_parse((struct span){text, sizeof(text) - 1}, NULL, &c, &errors), -EINVAL);
	cr_assert_eq(config_errors_print(&errors, "x.yaml", &out), 0);
	cr_assert_eq(buffer_append(&out, "", 1, SIZE_MAX), 0);
	cr_assert_str_eq(buffer_span(&out).p, expected);
	buffer_release(&out);
	config_errors_free(&errors);
}

Test(config, the_directory_of_a_running_margay_is_the_only_good_one)
{
	const struct span bytes = {sample, sizeof(sample) - 1};
	struct config_defaults defaults = {.running_dir = "/tmp/x"};
	struct config_errors errors;
	struct config *c;

	cr_assert_eq(config_parse(bytes, &defaults, &c, &errors), 0);
	config_free(c);
	defaults.running_dir = "/tmp/y";
	cr_assert_eq(config_parse(bytes, &defaults, &c, &errors), -EINVAL);
	cr_assert_eq(errors.count, 1);
	cr_assert_eq(errors.rows[0].line, 1);
	cr_assert_str_eq(errors.rows[0].key, "runtime_dir");
	config_errors_free(&errors);
}
