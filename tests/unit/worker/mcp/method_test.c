/* method: what the table says of the methods that matter most. */
#include "worker/mcp/method.h"

#include <criterion/criterion.h>

Test(method, a_tool_call_is_never_repeated)
{
	const struct mcp_method *m = mcp_method_find(SPAN("tools/call"));

	cr_assert_eq(m->class, METRIC_METHOD_TOOLS_CALL);
	cr_assert_not(m->repeatable);
}

Test(method, unknown_methods_are_other_and_not_repeated)
{
	static const char *const unknown[] = {"", "tools/cal", "tools/call ", "Tools/Call", "x"};

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		const struct mcp_method *m = mcp_method_find(span_of(unknown[i]));
		cr_expect_eq(m->class, METRIC_METHOD_OTHER);
		cr_expect_not(m->repeatable);
	}
}
