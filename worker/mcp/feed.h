/*
 * feed: what a legacy upstream says outside of requests, for clients of the stateless era.
 *
 * Each worker has at most one feed of an upstream, while somebody listens: a session of its own
 * (liaison.h), its GET stream, and the resources that listeners want to hear of, subscribed to
 * once. A `subscriptions/listen` is acknowledged when it is known what of it can be kept; every
 * message carries its id. A stream that breaks is opened again, and the lists are then said to have
 * changed. What the upstream asks there belongs to no request: it is refused.
 *
 * At most 64 listeners in a turn are acknowledged, told of a failure, or given what was said.
 */
#ifndef MARGAY_WORKER_MCP_FEED_H
#define MARGAY_WORKER_MCP_FEED_H

#include "worker/mcp/exchange.h"

/* The request in `x` is a valid subscriptions/listen. */
void feed_listen(struct exchange *x);
/* The exchange is over. */
void feed_leave(struct exchange *x);
void feed_free(struct exchange *x);
/* End it as the revision has it: with its result. */
void feed_drain(struct exchange *x);
void feeds_free_closed(struct worker *w);
void feeds_close(struct worker *w);
void feed_timeouts_init(struct worker *w);

#endif
