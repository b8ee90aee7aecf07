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

/* Take a frame: at once, or when it was scanned. `owed`: answers to what another keeper has sent of
 * it already. */
void intake_take(struct peer *p, const struct frame *frame, struct span payload, uint32_t owed);
/* Nobody waits for it any more: true when it is in the intake. It is taken first, as it came before
 * that. */
bool intake_forget(struct waiter *w, const struct frame *frame);
/* It was taken. */
void intake_finish(struct waiter *w);

/* While a frame is taken: as envelope_scan, into the keeper's envelope. What was scanned in turns
 * is not scanned again. */
int intake_scan(struct keeper *k, struct span message, struct envelope_fault *fault) MUST_CHECK;
/* How many answers were owed for it. */
uint32_t intake_owed(const struct keeper *k, struct span message);
/* The message is a batch: take its messages in turns, too, with its waiter for owner. False when
 * that must be done at once, because it is short or memory is. */
bool intake_batch(struct keeper *k, struct span message,
    int (*each)(void *waiter, const struct envelope *message), scanning_done *done) MUST_CHECK;
/* The message of such a frame. */
struct span intake_message(const struct frame *frame, struct span payload);

#endif
