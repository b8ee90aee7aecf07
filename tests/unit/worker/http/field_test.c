/* field: names of header fields. */
#include <criterion/criterion.h>

#include "worker/http/field.h"

/* A row whose letter is wrong, or whose length and letter another row has, does not find itself. */
Test(field, every_row_finds_itself)
{
	for (int i = HTTP_OTHER + 1; i < HTTP_FIELD_COUNT; i++)
		cr_assert_eq(http_field_of(http_field_names[i]), (enum http_field)i, "%s",
		    http_field_names[i].p);
}

Test(field, case_does_not_matter_and_other_names_are_none)
{
	cr_assert_eq(http_field_of(SPAN("Mcp-Session-ID")), HTTP_MCP_SESSION_ID);
	cr_assert_eq(http_field_of(SPAN("HOST")), HTTP_HOST);
	cr_assert_eq(http_field_of(SPAN("hose")), HTTP_OTHER);
	cr_assert_eq(http_field_of(SPAN("")), HTTP_OTHER);
	cr_assert_eq(http_field_of(SPAN("a-name-that-is-longer-than-all-of-them")), HTTP_OTHER);
}

Test(field, a_second_one_is_told_from_a_list)
{
	cr_assert(http_field_is_single(HTTP_CONTENT_LENGTH));
	cr_assert(http_field_is_single(HTTP_MCP_NAME));
	cr_assert_not(http_field_is_single(HTTP_ACCEPT));
	cr_assert_not(http_field_is_single(HTTP_OTHER));
}
