/*
 * version: the protocol revisions, as a table of what each one has.
 *
 * A new revision is one new row, or the date below. Nothing else in the tree names revisions.
 */
#ifndef MARGAY_WORKER_MCP_VERSION_H
#define MARGAY_WORKER_MCP_VERSION_H

#include <stdbool.h>

#include "common/revision.h"
#include "common/span.h"

/* In order of publication; kept in session records, so rows are only ever appended. */
enum mcp_version {
	MCP_2024_11_05,
	MCP_2025_03_26,
	MCP_2025_06_18,
	MCP_2025_11_25,
	MCP_VERSION_COUNT,
};

struct mcp_version_row {
	struct span date;
	bool batches;        /* JSON-RPC batches may be sent */
	bool version_header; /* MCP-Protocol-Version is sent after the handshake */
	bool resumes;        /* streams have ids to go on by */
	bool primes;         /* and may begin with an event that is only an id */
};

extern const struct mcp_version_row mcp_versions[MCP_VERSION_COUNT];

/* The revision of that date, or -1. */
int mcp_version_find(struct span date);
/* A date of the stateless era (2026-07-28 and later), known or not. */
bool mcp_version_is_modern(struct span date);

#endif
