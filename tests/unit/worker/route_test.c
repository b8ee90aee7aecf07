/* route: exact paths, found by binary search. */
#include "worker/route.h"

#include <criterion/criterion.h>

#include "tests/unit/worker/stage.h"

Test(route, finds_exact_paths_and_ignores_the_query)
{
	struct stage s;

	stage_open(&s);
	cr_assert_not_null(route_find(s.worker, SPAN("/mcp")));
	cr_assert_not_null(route_find(s.worker, SPAN("/mcp?session=1")));
	cr_assert_null(route_find(s.worker, SPAN("/mc")));
	cr_assert_null(route_find(s.worker, SPAN("/mcpx")));
	cr_assert_null(route_find(s.worker, SPAN("/mcp/")));
	cr_assert_null(route_find(s.worker, SPAN("")));
	stage_close(&s);
}
