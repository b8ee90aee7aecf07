/*
 * up: legacy clients at an upstream of the stateless era (mcp-wire 3).
 *
 * The handshake, ping, the log level and subscriptions are answered here and live in a session that
 * the upstream knows nothing of (virtual.h); every other request carries what its client said of
 * itself. A client that loses its connection has not cancelled anything; one that says
 * notifications/cancelled, at any worker, has.
 */
#ifndef MARGAY_WORKER_MCP_UP_H
#define MARGAY_WORKER_MCP_UP_H

#include "worker/mcp/errand.h"

/* Answer initialize: the upstream is known to be modern. */
void up_initialize(struct exchange *x);
/* What comes in such a session; `record` is valid now only. */
void up_start(struct exchange *x, const struct session_record *record);
/* Send the request of an errand, the first time or again with what the client was asked. 0 or
 * -errno. */
int up_send(struct errand *r, const struct retry_inputs *inputs) MUST_CHECK;
/* Mail for all workers: a client cancels a request that may be under way here. */
void up_cancelled(struct worker *w, struct span payload);

#endif
