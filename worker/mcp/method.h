/*
 * method: the table of MCP methods: what the gateway must know of each before it forwards it.
 */
#ifndef MARGAY_WORKER_MCP_METHOD_H
#define MARGAY_WORKER_MCP_METHOD_H

#include <stdbool.h>

#include "common/metrics/metrics.h"
#include "common/span.h"

/* In which eras it may be asked. */
enum method_eras { METHOD_LEGACY = 1, METHOD_MODERN = 2, METHOD_ALWAYS = 3 };

/* What the field Mcp-Name repeats (2026-07-28, streamable HTTP). */
enum method_subject { SUBJECT_NONE, SUBJECT_NAME, SUBJECT_URI };

struct mcp_method {
	struct span name;
	enum metric_method class;
	enum method_eras eras;
	enum method_subject subject;
	/*
	 * Sending it twice does no harm: it may be sent again when a pooled upstream connection
	 * turns out to be stale after it was written. Never true of tools/call.
	 */
	bool repeatable;
	bool stream;    /* its answer is a stream that may be silent for as long as it likes */
	bool cacheable; /* its result says for how long it is true (2026-07-28, caching) */
	bool asks; /* while it runs the server may ask the client (2026-07-28, input_required) */
};

/* The row of that method; one of class "other", of no era, when it is unknown. Never NULL. */
const struct mcp_method *mcp_method_find(struct span name);

#endif
