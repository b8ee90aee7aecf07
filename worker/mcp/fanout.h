/*
 * fanout: what one stream of an upstream says, given to all who hear it.
 *
 * To at most 64 in a turn; the stream is not read until all have it, so that little more waits.
 * Each gets, once and in order, all that comes while it is there, and nothing that others were
 * given or were being given before. Anybody may leave when something is given, and so end whoever
 * embeds this.
 */
#ifndef MARGAY_WORKER_MCP_FANOUT_H
#define MARGAY_WORKER_MCP_FANOUT_H

#include <bsd/sys/queue.h>

#include "common/buffer.h"
#include "common/timeout.h"

struct upstream_call;
struct worker;

/* Somebody who hears it. Embed it; leave before it goes. */
struct hearer {
	TAILQ_ENTRY(hearer) link;
	struct fanout *fanout; /* NULL: none */
};

/* News are valid now only. */
typedef void fanout_give(struct hearer *h, struct span news);

struct fanout {
	struct upstream_call *call; /* the stream */
	fanout_give *give;
	TAILQ_HEAD(, hearer) hearers;
	/* On their way, and who is to have them next: all others have. NULL: all have. */
	struct buffer news;
	struct hearer *next;
	struct buffer fresh; /* what came meanwhile: append whole news, then fanout_deliver */
	struct timeout more;
	bool closed;
};

void fanout_init(struct fanout *f, struct upstream_call *call, fanout_give *give);
/* Nothing is given any more. */
void fanout_close(struct fanout *f);
void fanout_free(struct fanout *f);

/* Somebody may leave now, and whoever embeds this be closed. */
void fanout_deliver(struct fanout *f);

void fanout_join(struct fanout *f, struct hearer *h);
void fanout_leave(struct hearer *h);
void fanout_timeouts_init(struct worker *w);

#endif
