/*
 * source: what an upstream of the stateless era says outside of requests, for legacy clients.
 *
 * One `subscriptions/listen` of Margay's own, for all streams of this worker whose clients would
 * ask the same: who say the same of themselves and subscribed to the same URIs. It carries nothing
 * else of a client, so the upstream could not tell them apart either. There while somebody hears
 * it; asked anew when it ends. What changed in between was not seen, so the lists are then said to
 * have changed.
 *
 * Closed in any callback, freed between two turns of the loop.
 */
#ifndef MARGAY_WORKER_MCP_SOURCE_H
#define MARGAY_WORKER_MCP_SOURCE_H

#include "common/attributes.h"
#include "worker/mcp/fanout.h"

struct upstream;

/*
 * Hear what a session with this state (virtual.h) is to hear, and no longer something else. What
 * went unseen on the way is made up for: the hearer may be gone when this returns. 0 or -errno:
 * then nothing changed.
 */
int source_hear(struct hearer *h, struct upstream *u, struct span state) MUST_CHECK;
/* Harmless when it hears none. */
void source_leave(struct hearer *h);
void sources_free_closed(struct worker *w);
void source_timeouts_init(struct worker *w);

/* In listen.c. Whole events, valid now only; the hearer may leave. */
void listen_hears(struct hearer *h, struct span events);
/* The upstream is to be asked anew, as it ended its answer or failed. */
void listen_lost(struct hearer *h);

#endif
