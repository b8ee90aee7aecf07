/*
 * lines: bytes that come in pieces, cut into lines.
 *
 * A line that came in one piece is not copied. A line longer than `max` is skipped to its end and
 * reported once; no more than `max` bytes are ever held, and what came in one piece with the end of
 * a line that is held.
 */
#ifndef MARGAY_COMMON_LINES_H
#define MARGAY_COMMON_LINES_H

#include "common/buffer.h"

struct lines {
	size_t max; /* bytes of a line, without its end */
	size_t
	    at_once; /* bytes of a line that is given at once; a longer one is held; 0: all are */
	size_t held; /* bytes of `part`, its end included, that are a line which is held */
	struct buffer part;
	bool skipping;
};

struct lines_ops {
	/* A whole line without its end (LF or CRLF). */
	void (*line)(void *context, struct span line);
	/* A line was too long, or memory too short; `beginning` is what there was of it. */
	void (*too_long)(void *context, struct span beginning);
};

/* Not while a line is held. */
void lines_feed(struct lines *l, struct span bytes, const struct lines_ops *ops, void *context);
/* The line that is held, without its end; it stays where it is. Empty: none is. */
struct span lines_held(const struct lines *l);
/* Go on behind it. */
void lines_release(struct lines *l, const struct lines_ops *ops, void *context);
/* Go on with the `part` of another: if it begins with a whole line, that is held, be it long or
 * not. 0 or -errno. */
int lines_restore(struct lines *l, struct span part) MUST_CHECK;
/* Forget all that came. */
void lines_clear(struct lines *l);

/* Whether the next byte belongs to a line that has begun. */
static inline bool lines_midway(const struct lines *l)
{
	struct span part = buffer_span(&l->part);

	return l->skipping || (part.n > 0 && part.p[part.n - 1] != '\n');
}

#endif
