/* compose: JSON around values that stay as they came; and what raw.h finds in it. */
#include "common/compose.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "common/raw.h"

static void expect(const struct buffer *out, const char *text)
{
	cr_expect_eq(buffer_length(out), strlen(text), "%.*s", (int)buffer_length(out), out->data);
	cr_expect(span_equal(buffer_span(out), span_of(text)), "%.*s", (int)buffer_length(out),
	    buffer_span(out).p);
}

Test(compose, commas_stand_between_and_nowhere_else)
{
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = 1000};

	compose_open(&c, '{');
	compose_member(&c, "a", SPAN("1.0"));
	compose_key(&c, "b");
	compose_open(&c, '[');
	compose_element(&c, SPAN("1"));
	compose_element(&c, SPAN("{}"));
	compose_close(&c, ']');
	compose_text(&c, "c", SPAN("x\"\\\n"));
	compose_integer(&c, "d", -7);
	compose_key(&c, "e");
	compose_open(&c, '{');
	compose_close(&c, '}');
	compose_close(&c, '}');
	cr_expect_eq(c.error, 0);
	expect(&out, "{\"a\":1.0,\"b\":[1,{}],\"c\":\"x\\\"\\\\\\u000a\",\"d\":-7,\"e\":{}}");
	buffer_release(&out);
}

Test(compose, members_are_copied_but_for_those_left_out)
{
	static const char *const without[] = {"b", "io.example/", NULL};
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = 1000};

	compose_open(&c, '{');
	compose_members(&c,
	    SPAN("{ \"a\" : 12345678901234567890 , \"b\":{\"a\":1}, \"io.example/x\": "
		 "2,\"\\u0062\":3, "
		 "\"io.example\\/y\":4, \"c\\u0062\": [ 1, 2 ] }"),
	    without);
	compose_close(&c, '}');
	expect(&out, "{\"a\":12345678901234567890,\"c\\u0062\":[ 1, 2 ]}");
	buffer_release(&out);
}

Test(compose, the_bound_is_kept_and_the_error_latched)
{
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = 5};

	compose_open(&c, '{');
	compose_member(&c, "long", SPAN("1"));
	compose_close(&c, '}');
	cr_expect_eq(c.error, -EMSGSIZE);
	cr_expect_leq(buffer_length(&out), 5);
	buffer_release(&out);
}

Test(raw, keys_mean_the_same_with_escapes_and_without)
{
	struct span value;

	cr_expect(raw_member(SPAN("{\"na\\u006de\":1}"), "name", &value));
	cr_expect(span_equal(value, SPAN("1")));
	cr_expect_not(raw_member(SPAN("{\"nam\\u0065s\":1}"), "name", &value));
	cr_expect(raw_object(SPAN("{\"a\":{}}"), "a", &value));
	cr_expect_not(raw_object(SPAN("{\"a\":[]}"), "a", &value));
	/* Not valid JSON: nothing is found, nothing is read that is not there. */
	cr_expect_not(raw_member(SPAN("{\"\\u00\":1}"), "name", &value));
	cr_expect_not(raw_member(SPAN("{\"\\x\":1}"), "name", &value));
	cr_expect_not(raw_member(SPAN("{\"name\""), "name", &value));
}

/* Cuts are values of the index that are long; what is short, or of elsewhere, is copied. */
Test(compose, long_values_may_be_left_out)
{
	static char text[RAW_LONG + 100], other[RAW_LONG + 1];
	struct buffer out = {0};
	struct raw_index index = {0};
	struct compose_cuts cuts = {0};
	struct compose c = {
	    .out = &out, .bound = 2 * RAW_LONG + 100, .index = &index, .cuts = &cuts};
	int n = snprintf(text, sizeof(text), "{\"a\":1,\"b\":\"");

	memset(text + n, 'x', RAW_LONG);
	memcpy(text + n + RAW_LONG, "\",\"c\":2}", 9);
	memset(other, '1', sizeof(other));
	struct span value = {text + n - 1, RAW_LONG + 2};
	raw_index_note(&index, value);
	compose_open(&c, '{');
	compose_members(&c, (struct span){text, (size_t)n + RAW_LONG + 8}, NULL);
	cr_assert_eq(c.error, 0);
	expect(&out, "{\"a\":1,\"b\":,\"c\":2");
	cr_assert_eq(cuts.count, 1);
	cr_assert_eq(cuts.rows[0].at, strlen("{\"a\":1,\"b\":"));
	cr_assert_eq(cuts.rows[0].value.p, value.p);
	cr_assert_eq(compose_length(&c), buffer_length(&out) + value.n);
	compose_member(&c, "d", (struct span){other, sizeof(other)});
	cr_assert_eq(cuts.count, 1, "it may not stay where it is");
	cr_assert_eq(c.error, 0);
	compose_member(&c, "e", value);
	cr_assert_eq(c.error, -EMSGSIZE, "cuts count");
	buffer_release(&out);
}
