/* raw: found in the text, which is looked at no further than needed. */
#include "common/raw.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(raw, names_the_first_of_some_keys)
{
	static const char *const keys[] = {"result", "error", NULL};
	static const struct {
		const char *text;
		int first;
	} rows[] = {
	    {"{\"result\":{}}", 0},
	    {" { \"id\" : 1 , \"error\" : {\"result\":1}}", 1},
	    {"{\"jsonrpc\":\"2.0\",\"id\":\"result\",\"result\":[1,", 0},
	    {"{\"params\":{\"error\":1},\"result\":", 0},
	    {"{\"\\u0072esult\":1,\"error\":1}", 0},
	    {"{\"method\":\"error\",\"params\":{\"result\":1}}", -1},
	    {"[{\"result\":1}]", -1},
	    {"{\"id\":", -1},
	    {"{\"result\"", -1},
	    {"{}", -1},
	    {"", -1},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(raw_first(span_of(rows[i].text), keys), rows[i].first, "row %zu", i);
}

Test(raw, walks_over_members)
{
	struct span rest = SPAN("{\"a\": [1, {\"b\": \"}\"}] , \"c\":2 }"), key, value;

	cr_assert(raw_next_member(&rest, &key, &value));
	cr_assert(span_equal(key, SPAN("a")));
	cr_assert(span_equal(value, SPAN("[1, {\"b\": \"}\"}]")));
	cr_assert(raw_next_member(&rest, &key, &value));
	cr_assert(span_equal(key, SPAN("c")));
	cr_assert(span_equal(value, SPAN("2")));
	cr_assert_not(raw_next_member(&rest, &key, &value));
}

Test(raw, finds_some_members_in_one_pass)
{
	static const char *const keys[] = {"a", "b", "c", NULL};
	struct span values[3];

	raw_members_in(
	    NULL, SPAN("{\"x\":{\"c\":0},\"b\":[1],\"\\u0061\":\"2\",\"b\":3}"), keys, values);
	cr_assert(span_equal(values[0], SPAN("\"2\"")));
	cr_assert(span_equal(values[1], SPAN("[1]")));
	cr_assert_null(values[2].p);
	raw_members_in(NULL, (struct span){0}, keys, values);
	cr_assert_null(values[0].p);
}

/* Values are passed over in blocks: what ends them may stand at any place of one. */
Test(raw, passes_over_values_of_any_length)
{
	static const char *const opened[] = {"\"", "[\"]\",", "{\"[\\\"\":"};
	static const char *const closed[] = {"\\\"\"", "]", "}"};
	char text[128];
	struct span found;

	for (size_t i = 0; i < 3; i++) {
		for (int n = 0; n < 40; n++) {
			int length = snprintf(text, sizeof(text), "{\"a\":%s%.*s%s,\"b\":7}",
			    opened[i], n, "1111111111111111111111111111111111111111", closed[i]);
			cr_assert(raw_member((struct span){text, (size_t)length}, "b", &found));
			cr_assert(span_equal(found, SPAN("7")), "%s", text);
			/* Cut off anywhere, it stays inside. */
			for (int cut = 0; cut < length; cut++)
				cr_assert_not(raw_member(
				    (struct span){strndupa(text, (size_t)cut), (size_t)cut}, "c",
				    &found));
		}
	}
}

Test(raw, does_not_go_over_values_in_the_index)
{
	/* Inside of what is noted stands what would end the walk if it was looked at. */
	struct span text = SPAN("{\"a\":\"}\\\"]\",\"b\":[\"x\",\"]]\"],\"c\":3}"), rest = text,
		    key, value;
	struct raw_index index = {0};

	raw_index_note(&index, (struct span){text.p + 5, 6});
	cr_assert_eq(raw_index_find(&index, text.p + 5), 6);
	cr_assert_eq(raw_index_find(&index, text.p + 6), 0);
	cr_assert_eq(raw_index_find(NULL, text.p + 5), 0);
	index.rows[0].n = 4; /* as far as the index says, and no further */
	cr_assert(raw_next_member_in(&index, &rest, &key, &value));
	cr_assert(span_equal(value, SPAN("\"}\\\"")));
	cr_assert_not(raw_next_member_in(&index, &rest, &key, &value));
}

Test(raw, a_full_index_keeps_what_is_outside)
{
	static char text[4 * RAW_INDEX_MAX];
	struct raw_index index = {0};

	for (size_t i = 0; i < RAW_INDEX_MAX; i++)
		raw_index_note(&index, (struct span){text + 2 + 2 * i, 1});
	raw_index_note(&index, (struct span){text + 2 * RAW_INDEX_MAX + 2, 1});
	cr_assert_eq(index.count, RAW_INDEX_MAX, "there is no room for one more");
	raw_index_note(&index, (struct span){text + 11, 2 * RAW_INDEX_MAX});
	cr_assert_eq(raw_index_find(&index, text + 11), 2 * RAW_INDEX_MAX);
	cr_assert_eq(raw_index_find(&index, text + 10), 1, "it is not within that");
	cr_assert_eq(raw_index_find(&index, text + 12), 0);
	raw_index_note(&index, (struct span){text, sizeof(text)});
	cr_assert_eq(raw_index_find(&index, text), sizeof(text));
}
