/*
 * conn: one connection to the upstream: reads requests, has them answered, writes.
 *
 * Owned by its server. A closed one stays in memory until the loop is about to sleep, so nobody
 * frees it under its own callback. While it is a stream, `stream` says of what kind; it then serves
 * no further requests.
 */
#ifndef MARGAY_TESTS_LOAD_UPSTREAM_CONN_H
#define MARGAY_TESTS_LOAD_UPSTREAM_CONN_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <bsd/sys/queue.h>

#include "common/buffer.h"
#include "common/span.h"
#include "tests/load/message.h"

struct server;
struct session;

enum conn_verb { VERB_OTHER, VERB_POST, VERB_GET, VERB_DELETE };
enum conn_stream { STREAM_NONE, STREAM_SESSION, STREAM_LISTEN };

enum { CONN_ID_MAX = 256, CONN_VALUE_MAX = 64, CONN_OUT_MAX = 64 << 20 };

struct conn {
	struct server *server;
	LIST_ENTRY(conn) link;
	LIST_ENTRY(conn) stream_link;
	int fd;
	ev_io readable, writable;
	struct message request;
	struct buffer in, pieces, out;
	struct span whole; /* the body, when it came in one piece */
	enum conn_verb verb;
	bool path, wants_stream; /* it is ours; Accept names event streams */
	bool close_after, closed;
	bool has_session;
	char session_id[CONN_VALUE_MAX], version[CONN_VALUE_MAX];
	uint64_t seen; /* Last-Event-ID */
	enum conn_stream stream;
	struct session *session;     /* whose events STREAM_SESSION carries */
	uint64_t next;               /* number of its next event */
	char listen_id[CONN_ID_MAX]; /* of STREAM_LISTEN: raw JSON */
};

/* Take over an accepted descriptor. Without memory it is closed. */
void conn_open(struct server *s, int fd);
void conn_close(struct conn *c);
/* Write what is there; what the socket does not take waits for it. */
void conn_flush(struct conn *c);
/* Append to what is to be written; closes the connection when that is too much. */
void conn_put(struct conn *c, struct span bytes);
/* Memory of a closed connection. */
void conn_free(struct conn *c);

#endif
