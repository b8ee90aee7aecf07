/* raw: found in the text, which is looked at no further than needed. */
#include "common/raw.h"

#include <criterion/criterion.h>

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
