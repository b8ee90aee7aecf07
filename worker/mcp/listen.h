/*
 * listen: the stream of a legacy client at an upstream of the stateless era.
 *
 * The client's GET stream is fed by a `subscriptions/listen` for all that the upstream announces
 * and all URIs that the session subscribed to. It is asked anew when these change, and when it
 * ends; what changed in between was not seen, so the lists are then said to have changed. A session
 * has one such stream at a time, as each message may go to one only (2025-03-26, transports).
 */
#ifndef MARGAY_WORKER_MCP_LISTEN_H
#define MARGAY_WORKER_MCP_LISTEN_H

#include "worker/mcp/exchange.h"

/* A GET in such a session; `record` is valid now only. */
void listen_start(struct exchange *x, const struct session_record *record);
/* The session changed, here or at another worker. */
void listen_changed(struct worker *w, const struct session_id *session);
void listen_timeouts_init(struct worker *w);

#endif
