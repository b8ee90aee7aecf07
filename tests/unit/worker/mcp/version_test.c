/* version: which dates are known and which belong to the stateless era. */
#include "worker/mcp/version.h"

#include <criterion/criterion.h>

Test(version, finds_every_legacy_revision_by_its_date)
{
	for (int i = 0; i < MCP_VERSION_COUNT; i++)
		cr_assert_eq(mcp_version_find(mcp_versions[i].date), i);
	cr_assert_eq(mcp_version_find(SPAN("2026-07-28")), -1);
	cr_assert_eq(mcp_version_find(SPAN("")), -1);
}

Test(version, tells_the_stateless_era_by_date_alone)
{
	cr_assert(mcp_version_is_modern(SPAN("2026-07-28")));
	cr_assert(mcp_version_is_modern(SPAN("2031-01-01")));
	cr_assert_not(mcp_version_is_modern(SPAN("2025-11-25")));
	cr_assert_not(mcp_version_is_modern(SPAN("9999")));
	cr_assert_not(mcp_version_is_modern(SPAN("zzzz-zz-zz")));
}
