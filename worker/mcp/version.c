/* version: see version.h. Dates compare as strings because ISO 8601 sorts. */
#include "worker/mcp/version.h"

#include <ctype.h>

static const struct span first_modern = {MCP_STATELESS, sizeof(MCP_STATELESS) - 1};

const struct mcp_version_row mcp_versions[MCP_VERSION_COUNT] = {
    [MCP_2024_11_05] = {.date = {"2024-11-05", 10}},
    [MCP_2025_03_26] = {.date = {"2025-03-26", 10}, .batches = true, .resumes = true},
    [MCP_2025_06_18] = {.date = {"2025-06-18", 10}, .version_header = true, .resumes = true},
    [MCP_2025_11_25] = {.date = {"2025-11-25", 10},
	.version_header = true,
	.resumes = true,
	.primes = true},
};

int mcp_version_find(struct span date)
{
	for (int i = 0; i < MCP_VERSION_COUNT; i++) {
		if (span_equal(mcp_versions[i].date, date))
			return i;
	}
	return -1;
}

static bool looks_like_date(struct span date)
{
	static const char shape[] = "dddd-dd-dd";

	if (date.n != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; i < date.n; i++) {
		if (shape[i] == 'd' ? !isdigit((unsigned char)date.p[i]) : date.p[i] != shape[i])
			return false;
	}
	return true;
}

bool mcp_version_is_modern(struct span date)
{
	return looks_like_date(date) && memcmp(date.p, first_modern.p, first_modern.n) >= 0;
}
