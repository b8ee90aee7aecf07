/*
 * sse: where the events of a text/event-stream begin and end (HTML, 9.2.6), without holding a
 * stream back.
 */
#ifndef MARGAY_WORKER_HTTP_SSE_H
#define MARGAY_WORKER_HTTP_SSE_H

#include <stdbool.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "common/span.h"

/* Follows a stream that is passed on, to know where something may be put in between.
 * Zero-initialised. */
struct sse {
	bool in_event; /* a line that is not empty came since the last empty one */
	bool in_line;
	bool after_cr;
};

void sse_feed(struct sse *s, const char *p, size_t n);
/* At the start, or right after an empty line. */
bool sse_at_boundary(const struct sse *s);

enum { SSE_EVENT_MAX = 32, SSE_ID_MAX = 256 };

/* What is said of events beside their data. Zero-initialised. */
struct sse_marks {
	char event[SSE_EVENT_MAX]; /* the name of the event; empty: message. Longer ones are cut */
	char id[SSE_ID_MAX];       /* the last one; empty when there was none, or one too long */
	unsigned retry;            /* milliseconds, as last said; 0: not */
};

/* Collects the `data` of each event, lines joined by LF. Zero-initialised; release when done. */
struct sse_data {
	struct buffer line, data;
	struct sse_marks *marks; /* the owner's; NULL: it does not want to know */
	size_t taken;            /* of what was fed, when `each` ended that */
	bool after_cr;
};

/*
 * Take the next bytes; `each` gets the data of every complete event (valid during the call, unless
 * it takes the buffer `data` over, which has one LF more), and ends the feeding with a non-zero
 * return, which is returned. 0, or -EMSGSIZE when a line or an event exceeds `bound`, or -ENOMEM.
 */
int sse_data_feed(struct sse_data *d, const char *p, size_t n, size_t bound,
    int (*each)(struct sse_data *d, struct span data)) MUST_CHECK;
void sse_data_release(struct sse_data *d);

/* Make the text of a JSON message one line: line ends in it can only stand between its tokens. */
void sse_join_lines(char *p, size_t n);

#endif
