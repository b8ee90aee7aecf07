/*
 * server: the fast MCP server that load tests put behind Margay.
 *
 * One thread, one loop, keep-alive. Serves the Streamable HTTP of 2025-03-26 to 2025-11-25 and of
 * 2026-07-28 on one path. A request is answered at once and in order; nothing waits but streams.
 */
#ifndef MARGAY_TESTS_LOAD_UPSTREAM_SERVER_H
#define MARGAY_TESTS_LOAD_UPSTREAM_SERVER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <bsd/sys/queue.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "tests/load/upstream/session.h"

struct conn;
LIST_HEAD(conn_list, conn);

struct server_options {
	unsigned port;
	unsigned bytes;    /* of the text of a tool's result */
	unsigned every;    /* milliseconds between two events of a stream */
	unsigned sessions; /* at most */
	bool sse;          /* results come as event streams */
	bool legacy, modern;
};

/* What was served, printed at the end. */
struct server_counts {
	uint64_t connections, requests, calls, events;
};

struct server {
	struct ev_loop *loop;
	struct server_options options;
	struct server_counts counts;
	struct sessions sessions;
	struct conn_list conns, dead; /* dead: closed, freed before the loop sleeps */
	struct conn_list streams;
	struct buffer text; /* what a tool says */
	int fd;
	ev_io accept;
	ev_timer tick;
	ev_prepare bury;
	ev_signal terminate, interrupt;
};

/* Listen on 127.0.0.1 and be ready for ev_run. 0 with options.port set, or -errno. */
int server_start(struct server *s) MUST_CHECK;
/* Close everything. */
void server_stop(struct server *s);

#endif
