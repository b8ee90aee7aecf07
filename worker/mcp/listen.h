/*
 * listen: the stream of a legacy client at an upstream of the stateless era.
 *
 * The client's GET stream hears of all that the upstream announces and of all URIs that the session
 * subscribed to, from a source that it shares with others (source.h); when these change, from
 * another one. A session has one such stream at a time, as each message may go to one only
 * (2025-03-26, transports).
 *
 * It is begun for an exchange. Once it is, it serves the conn itself until its end and the exchange
 * goes: such streams are many and last, and of what a request needs they need little.
 */
#ifndef MARGAY_WORKER_MCP_LISTEN_H
#define MARGAY_WORKER_MCP_LISTEN_H

#include "worker/mcp/exchange.h"

/* A GET in such a session. */
void listen_start(struct exchange *x);
/* The exchange is over before the stream has begun. */
void listen_leave(struct exchange *x);
/* The session changed, here or at another worker. */
void listen_changed(struct worker *w, const struct session_id *session);
void listen_timeouts_init(struct worker *w);
/* The worker drains: each ends in a while (drain_wait). */
void listenings_drain(struct worker *w);
void listenings_free_closed(struct worker *w);

#endif
