/*
 * link: a client's connection: one request at a time, and what became of it.
 *
 * Opened when a request is to be sent and none is open. That the server closes it between two
 * requests, or after an answer that said so, is polite; that it goes while a request is on it and
 * not wholly answered is a failure. Embedded in its client; the answer's callbacks may not close it
 * but return non-zero, all others may send or close.
 */
#ifndef MARGAY_TESTS_LOAD_DRIVER_LINK_H
#define MARGAY_TESTS_LOAD_DRIVER_LINK_H

#include <ev.h>
#include <netinet/in.h>
#include <stdbool.h>

#include "common/buffer.h"
#include "common/span.h"
#include "tests/load/driver/report.h"
#include "tests/load/message.h"

struct link;

struct link_ops {
	struct message_ops answer;
	void (*connected)(struct link *l);
	/* The whole answer is there; the link is idle, or closed if the answer wanted that. */
	void (*done)(struct link *l);
	/* The link is closed. `what` is why the request on it failed; `port` its local port. */
	void (*lost)(struct link *l, enum failure what, const char *detail, unsigned port);
	/* The server closed it between two requests. */
	void (*idle_closed)(struct link *l);
};

enum link_state { LINK_CLOSED, LINK_CONNECTING, LINK_BUSY, LINK_IDLE };

struct link {
	const struct link_ops *ops;
	struct ev_loop *loop;
	const struct sockaddr_in *address;
	int fd;
	enum link_state state;
	ev_io readable, writable;
	struct message answer;
	struct buffer in;
	struct span rest; /* of the request */
};

void link_init(struct link *l, struct ev_loop *loop, const struct sockaddr_in *address,
    const struct link_ops *ops);
/* Send a request, whose bytes stay the caller's and as they are until it is answered or lost. The
 * link must not be busy. May end in `lost` before it returns. */
void link_send(struct link *l, struct span request);
/* Without a word to anybody. Harmless when closed. */
void link_close(struct link *l);
/* The local port; 0 when closed. */
unsigned link_port(const struct link *l);

#endif
