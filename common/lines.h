/*
 * lines: bytes that come in pieces, cut into lines.
 *
 * A line that came in one piece is not copied. A line longer than `max` is skipped to its end and
 * reported once; no more than `max` bytes are ever held.
 */
#ifndef MARGAY_COMMON_LINES_H
#define MARGAY_COMMON_LINES_H

#include "common/buffer.h"

struct lines {
	size_t max; /* bytes of a line, without its end */
	struct buffer part;
	bool skipping;
};

struct lines_ops {
	/* A whole line without its end (LF or CRLF). */
	void (*line)(void *context, struct span line);
	/* A line was too long, or memory too short; `beginning` is what there was of it. */
	void (*too_long)(void *context, struct span beginning);
};

void lines_feed(struct lines *l, struct span bytes, const struct lines_ops *ops, void *context);
/* Whether the next byte belongs to a line that has begun. */
static inline bool lines_midway(const struct lines *l)
{
	return l->skipping || buffer_length(&l->part) > 0;
}

#endif
