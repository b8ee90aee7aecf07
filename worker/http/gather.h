/*
 * gather: the pieces of one answer, collected while a callback runs and written by one writev.
 *
 * Pieces given by `gather_add` are not copied and must live until the flush; text is copied into a
 * small arena. Belongs to the worker and serves one connection at a time: whoever starts to gather
 * flushes before it returns.
 */
#ifndef MARGAY_WORKER_HTTP_GATHER_H
#define MARGAY_WORKER_HTTP_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "common/attributes.h"
#include "common/span.h"

enum { GATHER_PIECES = 64, GATHER_TEXT = 8192 };

struct gather {
	struct iovec pieces[GATHER_PIECES];
	unsigned count;
	size_t length;
	size_t text_used;
	char text[GATHER_TEXT];
};

/* False when it is full: flush first. */
bool gather_add(struct gather *g, struct span bytes) MUST_CHECK;
/* Copy `bytes`, at most GATHER_TEXT in all. */
bool gather_copy(struct gather *g, struct span bytes) MUST_CHECK;
void gather_reset(struct gather *g);

#endif
