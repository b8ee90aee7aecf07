/* broken: each row of broken_configs.def is refused, and the message names its place. */
#include "common/config/config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static const char good[] = "runtime_dir: /tmp/x\n"
			   "\n"
			   "listen:\n"
			   "  - address: 127.0.0.1:8080\n"
			   "upstreams:\n"
			   "  one: {http: {url: \"http://127.0.0.1:1/mcp\"}}\n"
			   "routes:\n"
			   "  /mcp: {upstream: one}\n";

struct broken {
	const char *name, *text;
	size_t length;
	bool alone;
	unsigned line;
	const char *key, *part;
};

static const struct broken rows[] = {
#define BROKEN(name, text, line, key, part) {#name, text, sizeof(text) - 1, false, line, key, part},
#define BROKEN_ALONE(name, text, line, key, part) \
	{#name, text, sizeof(text) - 1, true, line, key, part},
#include "broken_configs.def"
};

static bool names_its_place(const struct config_errors *errors, const struct broken *row)
{
	for (size_t i = 0; i < errors->count; i++) {
		const struct config_error *e = &errors->rows[i];
		if (e->line == row->line && strcmp(e->key, row->key) == 0 &&
		    (strstr(e->problem, row->part) || strstr(e->remedy, row->part)))
			return true;
	}
	return false;
}

Test(broken, the_good_one_is_good)
{
	struct config *config;
	struct config_errors errors;

	cr_assert_eq(
	    config_parse((struct span){good, sizeof(good) - 1}, NULL, &config, &errors), 0);
	config_free(config);
}

Test(broken, every_row_is_refused_with_line_key_and_remedy)
{
	cr_assert_geq(sizeof(rows) / sizeof(rows[0]), 60);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct broken *row = &rows[i];
		struct config *config;
		struct config_errors errors;
		struct buffer text = {0}, out = {0};
		if (!row->alone)
			cr_assert_eq(buffer_append(&text, good, sizeof(good) - 1, SIZE_MAX), 0);
		cr_assert_eq(buffer_append(&text, row->text, row->length, SIZE_MAX), 0);
		int status = config_parse(buffer_span(&text), NULL, &config, &errors);
		cr_expect_eq(status, -EINVAL, "%s", row->name);
		if (status == 0) {
			config_free(config);
		} else {
			cr_assert_eq(config_errors_print(&errors, "x", &out), 0);
			cr_expect(names_its_place(&errors, row),
			    "%s: expected line %u, %s, `%s`; got:\n%.*s", row->name, row->line,
			    row->key, row->part, (int)buffer_length(&out), buffer_span(&out).p);
			cr_expect_eq(errors.count, 1, "%s: one mistake, one message; got:\n%.*s",
			    row->name, (int)buffer_length(&out), buffer_span(&out).p);
			config_errors_free(&errors);
		}
		buffer_release(&text);
		buffer_release(&out);
	}
}
