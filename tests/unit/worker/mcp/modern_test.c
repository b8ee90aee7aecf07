/* modern: what a field's value says (2026-07-28, streamable HTTP). */
#include "worker/mcp/modern.h"

#include <criterion/criterion.h>

Test(modern, a_value_is_itself_or_strict_base64)
{
	static const struct {
		const char *value, *text;
		bool says;
	} rows[] = {
	    {"plain", "plain", true},
	    {"plain", "Plain", false},
	    {"", "", true},
	    {"=?base64?cGxhaW4=?=", "plain", true},
	    {"=?base64?Z3LDtsOfZQ==?=",
		"gr\xc3\xb6\xc3\x9f"
		"e",
		true},
	    {"=?base64?YWJj?=", "abc", true},
	    {"=?base64?"
	     "?=",
		"", true},
	    {"=?base64?"
	     "?=",
		"x", false},
	    /* Without its beginning or end it is a text as any other. */
	    {"=?base64?YWJj", "=?base64?YWJj", true},
	    {"YWJj?=", "YWJj?=", true},
	    {"=?BASE64?YWJj?=", "=?BASE64?YWJj?=", true},
	    {"=?base64?=", "=?base64?=", true},
	    /* Not as RFC 4648 wants it. */
	    {"=?base64?cGxhaW4?=", "plain", false},
	    {"=?base64?cGxhaW5=?=", "plain", false},
	    {"=?base64?cGx haW4=?=", "plain", false},
	    {"=?base64? YWJj?=", "abc", false},
	    {"=?base64?YW-_?=", "ao\xbf", false},
	    {"=?base64?====?=", "", false},
	    {"=?base64?YWJj?=", "=?base64?YWJj?=", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(modern_value_says(span_of(rows[i].value), span_of(rows[i].text)),
		    rows[i].says, "%s", rows[i].value);
}
