/*
 * connection: one client's TCP connection.
 *
 * Reads one request at a time; bytes that come while its answer is not out wait in `rest`, up to a
 * bound, after which the socket is not read. Callbacks only mark the connection ready: writing,
 * going on to the next request and freeing happen in connection_run, called from ev_prepare.
 */
#ifndef MARGAY_MASTER_DEMO_CONNECTION_H
#define MARGAY_MASTER_DEMO_CONNECTION_H

#include <bsd/sys/queue.h>
#include <ev.h>
#include <stdbool.h>

#include "common/buffer.h"
#include "common/timeout.h"
#include "master/demo/http_answer.h"
#include "master/demo/http_request.h"

struct http_server;

enum connection_state {
	CONNECTION_READING,   /* waits for a request, or for the rest of one */
	CONNECTION_ANSWERING, /* until the answer is complete and written */
	CONNECTION_LINGERING, /* said all; reads on so that no reset overtakes the answer */
	CONNECTION_DOOMED     /* freed by the next run */
};

struct connection {
	TAILQ_ENTRY(connection) link;
	TAILQ_ENTRY(connection) ready_link;
	struct http_server *http;
	struct timeout timeout;
	struct timeout_queue *timing; /* the queue that `timeout` was last armed in */
	ev_io readable;
	ev_io writable;
	struct http_request request;
	struct http_answer answer;
	struct buffer rest; /* pipelined bytes */
	enum connection_state state;
	bool ready; /* stands in the ready list */
	bool ended; /* the client sends no more */
};

TAILQ_HEAD(connection_list, connection);

/* Take over the descriptor. 0, or -ENOMEM with the descriptor closed. */
int connection_open(struct http_server *http, int fd) MUST_CHECK;
/* Write, go on, or free it. True when there is more to do at once. */
bool connection_run(struct connection *c);
/* A deadline passed. */
void connection_expire(struct timeout_queue *queue, struct timeout *timeout);
void connection_free(struct connection *c);

#endif
