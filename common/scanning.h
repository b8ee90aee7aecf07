/*
 * scanning: a message or batch that is too long to be scanned in one turn of the loop.
 *
 * SCANNING_STEP bytes a turn, so that neighbours are served between them. What was found stays here
 * until it is freed: nothing that long is scanned twice. The text is its owner's, and stays where
 * it is.
 */
#ifndef MARGAY_COMMON_SCANNING_H
#define MARGAY_COMMON_SCANNING_H

#include <ev.h>

#include "common/envelope.h"

struct scanning;

/* Bytes: what is scanned in one go, at most, and else in a turn. The worst text takes 3 ns a byte.
 */
enum { SCANNING_SHORT = 64 * 1024, SCANNING_STEP = 16 * 1024 };

/* Whose turns are taken, and where what was found is put. */
struct scanning_place {
	struct ev_loop *loop;
	struct envelope *envelope;
	unsigned depth;
};

/* In a later turn; what was found is in the place's envelope. `error` as of envelope_scan, or of
 * envelope_batch. The scanning may be freed in it. */
typedef void scanning_done(void *owner, int error, const struct envelope_fault *fault);

/* One message; or, with `each`, a batch, of which `each` gets every message, as in envelope_batch,
 * some in a turn. NULL when memory is short. */
struct scanning *scanning_begin(struct scanning_place place, struct span text,
    int (*each)(void *owner, const struct envelope *message), scanning_done *done,
    void *owner) MUST_CHECK;
/* What was found in a message, into the place's envelope. */
const struct envelope *scanning_found(const struct scanning *s);
/* Nothing comes any more, but what was found is kept. */
void scanning_stop(struct scanning *s);
/* NULL is nothing. */
void scanning_free(struct scanning *s);

/* Between two turns: what is left of a batch whose messages up to `taken`, the end of one, were
 * given, becomes a batch of its own in the same place; before it is space. */
void scanning_cut(const char *batch, const char *taken);

#endif
