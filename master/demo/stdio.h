/*
 * stdio: the same server on two descriptors, one JSON-RPC message a line, for one client.
 *
 * The whole conversation is one exchange and one session. The end of the input ends it once what
 * was asked is answered.
 */
#ifndef MARGAY_MASTER_DEMO_STDIO_H
#define MARGAY_MASTER_DEMO_STDIO_H

#include <ev.h>
#include <stdbool.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "master/demo/exchange.h"
#include "master/demo/output.h"
#include "master/demo/protocol.h"

enum { STDIO_INPUT = 64 << 10 };

struct stdio_server {
	struct server *server;
	struct exchange exchange;
	struct output out;
	struct buffer line; /* one that is not complete yet */
	ev_io readable;
	ev_io writable;
	ev_prepare prepare;
	ev_idle idle;
	int flags;     /* of the output descriptor, to be put back */
	bool too_long; /* skipping to the end of a line */
	bool ended;    /* end of the input */
	bool failed;   /* the output is gone, or memory ran out */
	char input[STDIO_INPUT];
};

/* Start on the two descriptors, which stay the caller's. server->stdio must be set. Breaks the loop
 * when the conversation ended. 0 or -errno. */
int stdio_start(struct stdio_server *io, struct server *server, int in, int out) MUST_CHECK;
void stdio_stop(struct stdio_server *io);

#endif
