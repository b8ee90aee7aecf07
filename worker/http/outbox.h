/*
 * outbox: the short answers of one turn, kept until they are sent together at its end.
 *
 * Sending wakes whoever reads. One answer at a time, the other side wakes, answers and sleeps again
 * for each; all at once, it wakes once. Belongs to the worker; bytes stay where they are until
 * outbox_reset, which comes before the loop polls again.
 */
#ifndef MARGAY_WORKER_HTTP_OUTBOX_H
#define MARGAY_WORKER_HTTP_OUTBOX_H

#include <bsd/sys/queue.h>

#include "common/span.h"
#include "worker/http/gather.h"

struct conn;

enum {
	OUTBOX_SIZE = 64 * 1024,
	OUTBOX_ANSWER_MAX = 4096, /* a longer one is not worth a copy */
};

struct outbox {
	TAILQ_HEAD(posted_list, conn) conns; /* whose answers are here */
	size_t used;
	char bytes[OUTBOX_SIZE];
};

/* A copy of what was gathered; p is NULL when it is too long or there is no room. */
struct span outbox_put(struct outbox *o, const struct gather *g);
/* All were sent. */
void outbox_reset(struct outbox *o);

#endif
