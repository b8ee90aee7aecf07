/*
 * intake: long messages of workers, which are scanned in turns before they are taken.
 *
 * What the same session sends by the same worker after one of them waits behind it, so that order
 * is kept; nobody else does. They are waiters (peer.h), go with their peer, and are handed over as
 * such.
 */
#ifndef MARGAY_MASTER_KEEPER_INTAKE_H
#define MARGAY_MASTER_KEEPER_INTAKE_H

#include "common/scanning.h"
#include "master/keeper/peer.h"

/* Let a frame wait if it must; else it is dispatched. */
void intake_add(struct peer *p, const struct frame *frame, struct span payload, uint32_t owed);
/* Take a frame: at once, or when it was scanned. `owed`: answers to what another keeper has sent of
 * it already. */
static inline void intake_take(
    struct peer *p, const struct frame *frame, struct span payload, uint32_t owed)
{
	if (payload.n <= SCANNING_SHORT && owed == 0 && TAILQ_EMPTY(&p->keeper->intake))
		peer_dispatch(p, frame, payload);
	else
		intake_add(p, frame, payload, owed);
}
/* Nobody waits for it any more: true when it is in the intake. It is taken first, as it came before
 * that. */
bool intake_forget(struct waiter *w, const struct frame *frame);
/* It was taken. */
void intake_finish(struct waiter *w);

/* The waiter of which this is the message, while it is taken; NULL: it had not to wait. */
static inline struct waiter *intake_looked_at(const struct keeper *k, struct span message)
{
	struct waiter *w = k->looked.waiter;

	return w && message.p >= w->payload && message.p < w->payload + w->frame.length ? w : NULL;
}
/* While a frame is taken: as envelope_scan, into the keeper's envelope. What was scanned in turns
 * is not scanned again. */
int intake_scan(struct keeper *k, struct span message, struct envelope_fault *fault) MUST_CHECK;
/* How many answers were owed for it. */
static inline uint32_t intake_owed(const struct keeper *k, struct span message)
{
	const struct waiter *w = intake_looked_at(k, message);

	return w ? w->answers : 0;
}
/* The message is a batch: take its messages in turns, too, with its waiter for owner. False when
 * that must be done at once, because it is short or memory is. */
bool intake_batch(struct keeper *k, struct span message,
    int (*each)(void *waiter, const struct envelope *message), scanning_done *done) MUST_CHECK;
/* The message of such a frame. */
struct span intake_message(const struct frame *frame, struct span payload);

#endif
