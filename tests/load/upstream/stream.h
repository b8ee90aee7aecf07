/*
 * stream: connections that have become event streams: of a session, or of a subscription.
 *
 * A stream takes events only while little of it waits to be written. One of a session then catches
 * up from where it was; one of a subscription has only missed that something changed again.
 */
#ifndef MARGAY_TESTS_LOAD_UPSTREAM_STREAM_H
#define MARGAY_TESTS_LOAD_UPSTREAM_STREAM_H

#include "common/span.h"

struct conn;
struct server;
struct session;

/* Become one. A session's earlier stream ends: its events go to one stream only. */
void stream_session(struct conn *c, struct session *s);
/* `id`: the request's, raw JSON, shorter than CONN_ID_MAX; `acknowledged`: raw JSON object. */
void stream_listen(struct conn *c, struct span id, struct span acknowledged);
/* Append the events that are due and find room. */
void stream_pump(struct conn *c);
/* The next event of every stream. */
void streams_tick(struct server *s);
/* Cut: whoever closes the connection calls it. Harmless for one that is no stream. */
void stream_end(struct conn *c);
/* The last chunk, then it closes. */
void stream_finish(struct conn *c);

#endif
