/*
 * batch: a batch of 2025-03-26 to an upstream that knows none: one request of each message, the
 * answers in one stream (S/2025-03-26/basic/transports.mdx: several responses may share one).
 *
 * An inlet in the client's own session makes the requests and keeps their order.
 */
#ifndef MARGAY_WORKER_MCP_BATCH_H
#define MARGAY_WORKER_MCP_BATCH_H

#include "worker/mcp/exchange.h"

void batch_start(struct exchange *x, const struct session_record *record);
void batch_leave(struct exchange *x);

#endif
