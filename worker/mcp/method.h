/*
 * method: the table of MCP methods: what the gateway must know of each before it forwards it.
 */
#ifndef MARGAY_WORKER_MCP_METHOD_H
#define MARGAY_WORKER_MCP_METHOD_H

#include <stdbool.h>

#include "common/metrics/metrics.h"
#include "common/span.h"

struct mcp_method {
	struct span name;
	enum metric_method class;
	/*
	 * Sending it twice does no harm: it may be sent again when a pooled upstream connection
	 * turns out to be stale after it was written. Never true of tools/call.
	 */
	bool repeatable;
};

/* The row of that method; one of class "other", not repeatable, when it is unknown. Never NULL. */
const struct mcp_method *mcp_method_find(struct span name);

#endif
