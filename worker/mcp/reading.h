/*
 * reading: the messages of an answer as they come, each scanned and given in its order.
 *
 * One that is longer than SCANNING_SHORT is taken over from the events that it came in and scanned
 * some of it in a turn of the loop. Its owner pauses the call meanwhile; what came behind it
 * already, the end of the answer included, is kept and taken after it. An answer in JSON is one
 * message, which the owner gathers in `text`.
 */
#ifndef MARGAY_WORKER_MCP_READING_H
#define MARGAY_WORKER_MCP_READING_H

#include "worker/http/sse.h"
#include "worker/mcp/scanning.h"

struct reading;

struct reading_ops {
	/* One message, or what is none: `error` as of envelope_scan. True: no more of them. */
	bool (*message)(struct reading *r, struct span text, int error, const struct envelope *e);
	/* It was busy and is not any more: all that was kept is taken. `error` as of reading_feed.
	 */
	void (*caught_up)(struct reading *r, int error);
};

/* Zero-initialised but for the first three. */
struct reading {
	struct worker *worker;
	const struct reading_ops *ops;
	size_t bound; /* bytes of a message, and of what is kept */
	struct sse_data events;
	struct buffer text;        /* a long message */
	struct scanning *scanning; /* of it */
	struct buffer behind;      /* what came after it */
	bool busy;                 /* it is scanned */
	bool lasting; /* while it is given: it stays where it is, if no more are wanted */
	bool ended;   /* all came, and how that ended: */
	int reason;
	char detail[128];
};

/* The next bytes of an event stream. Negative: -EMSGSIZE or -ENOMEM. */
int reading_feed(struct reading *r, const char *p, size_t n) MUST_CHECK;
/* Scan `text`, in later turns, instead of what is scanned. 0 or -ENOMEM. */
int reading_scan(struct reading *r) MUST_CHECK;
/* Note the end. True when it is busy: the owner sees to it when it has caught up. */
bool reading_end(struct reading *r, int reason, const char *detail) MUST_CHECK;
/* Nothing is given any more. */
void reading_stop(struct reading *r);
/* For another answer. */
void reading_reset(struct reading *r);
void reading_release(struct reading *r);

#endif
