/*
 * http: the listening socket and its connections.
 *
 * Owns every connection and the ready list, which one ev_prepare watcher drains; an ev_idle watcher
 * keeps the loop from blocking while that list is not empty.
 */
#ifndef MARGAY_MASTER_DEMO_HTTP_H
#define MARGAY_MASTER_DEMO_HTTP_H

#include <ev.h>
#include <sys/socket.h>

#include "common/attributes.h"
#include "common/timeout.h"
#include "master/demo/connection.h"
#include "master/demo/protocol.h"

enum { HTTP_INPUT = 64 << 10, HTTP_CONNECTIONS_MAX = 4096 };

struct http_server {
	struct server *server;
	struct ev_loop *loop;
	ev_io acceptable;
	ev_timer accept_pause; /* out of descriptors */
	ev_prepare prepare;
	ev_idle idle;
	struct connection_list connections;
	struct connection_list ready;
	unsigned count;
	struct timeout_queue idle_time;    /* for a request to begin */
	struct timeout_queue request_time; /* for it to be complete */
	struct timeout_queue write_time;   /* for some bytes to be read by the client */
	struct timeout_queue linger_time;
	char input[HTTP_INPUT]; /* what a readable callback just read */
};

/* Bind, listen and start. 0 or -errno; then nothing is left open. */
int http_start(struct http_server *http, struct server *server,
    const struct sockaddr_storage *address, socklen_t length) MUST_CHECK;
/* The address it listens on. 0 or -errno. */
int http_address(const struct http_server *http, struct sockaddr_storage *address) MUST_CHECK;
/* Close everything. */
void http_stop(struct http_server *http);

#endif
