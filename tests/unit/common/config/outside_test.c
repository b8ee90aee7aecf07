/* outside: whoever parses sealed bytes gets the texts that the first reader found. */
#include "common/config/config.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const char text[] =
    "listen: [{address: '*:1'}]\n"
    "routes: {/a: {upstream: a}, /b: {upstream: b}}\n"
    "upstreams:\n"
    "  a: {http: {url: 'http://x', headers: {Authorization: 'Bearer "
    "${env:MARGAY_TEST_TOKEN}'}}}\n"
    "  b: {http: {url: 'http://x', headers: {X-Plain: y, X-Brace: '$${'}}}\n";

static struct config *parse(struct span bytes, bool checked)
{
	struct config_defaults defaults = {.checked = checked};
	struct config_errors errors;
	struct config *config = NULL;

	cr_assert_eq(config_parse(bytes, &defaults, &config, &errors), 0);
	return config;
}

static void check_headers(const struct config *config)
{
	cr_assert_str_eq(config->upstreams[0].headers, "Authorization: Bearer secret\r\n");
	cr_assert_str_eq(config->upstreams[1].headers, "X-Plain: y\r\nX-Brace: ${\r\n");
}

/* Control: header fields of upstreams were left out of what another master takes over. */
Test(outside, references_are_resolved_once)
{
	struct buffer sealed = {0}, again = {0};

	setenv("MARGAY_TEST_TOKEN", "secret", 1);
	struct config *first = parse((struct span){text, sizeof(text) - 1}, false);
	check_headers(first);
	cr_assert_eq(config_seal(first, (struct span){text, sizeof(text) - 1}, &sealed), 0);
	setenv("MARGAY_TEST_TOKEN", "another", 1);
	struct config *second = parse(buffer_span(&sealed), true);
	check_headers(second);
	cr_assert_eq(config_seal(second, buffer_span(&sealed), &again), 0);
	cr_assert(span_equal(buffer_span(&sealed), buffer_span(&again)));
	config_free(first);
	config_free(second);
	buffer_release(&sealed);
	buffer_release(&again);
}

Test(outside, a_file_that_names_nothing_is_its_own_seal)
{
	static const char plain[] = "listen: [{address: '*:1'}]\n"
				    "routes: {/a: {upstream: a}}\n"
				    "upstreams: {a: {http: {url: 'http://x'}}}\n";
	struct buffer sealed = {0};
	struct config *config = parse(SPAN(plain), false);

	cr_assert_eq(config_seal(config, SPAN(plain), &sealed), 0);
	cr_assert(span_equal(buffer_span(&sealed), SPAN(plain)));
	config_free(config);
	buffer_release(&sealed);
}

/* Bytes cut anywhere: what is not whole is not there. */
Test(outside, a_cut_seal_is_read_as_far_as_it_goes)
{
	struct buffer sealed = {0};

	setenv("MARGAY_TEST_TOKEN", "secret", 1);
	struct config *config = parse((struct span){text, sizeof(text) - 1}, false);
	cr_assert_eq(config_seal(config, (struct span){text, sizeof(text) - 1}, &sealed), 0);
	struct span all = buffer_span(&sealed);
	config_free(config);
	for (size_t n = sizeof(text) - 1; n < all.n; n++) {
		char *copy = malloc(n);
		memcpy(copy, all.p, n);
		config = parse((struct span){copy, n}, true);
		const char *kept = strstr(config->upstreams[0].headers, "secret");
		cr_expect(!kept || n > sizeof(text), "%zu", n);
		config_free(config);
		free(copy);
	}
	buffer_release(&sealed);
}
