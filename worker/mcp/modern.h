/*
 * modern: requests of the stateless era (2026-07-28): validated in the order of mcp-wire 1.5, then
 * passed on to an upstream of that era as they are.
 */
#ifndef MARGAY_WORKER_MCP_MODERN_H
#define MARGAY_WORKER_MCP_MODERN_H

#include "worker/mcp/exchange.h"

/* Keep the fields that such a request repeats in its body. 0 or -ENOMEM, -EMSGSIZE. */
int modern_head(struct exchange *x, const struct http_head *head) MUST_CHECK;
/* True when the message is of that era: it is then answered or on its way. */
bool modern_admit(struct exchange *x, const struct envelope *e);

/* The status over HTTP that goes with a response (mcp-wire, 1.5). */
unsigned modern_status(struct span response);

#endif
