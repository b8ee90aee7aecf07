/*
 * scanning: the body of a request that is too long to be scanned in one turn of the loop.
 *
 * SCANNING_STEP bytes a turn, so that neighbours are served between them. What was found stays with
 * the exchange: nothing that long is scanned twice.
 */
#ifndef MARGAY_WORKER_MCP_SCANNING_H
#define MARGAY_WORKER_MCP_SCANNING_H

#include "common/envelope.h"

struct exchange;

/* Bytes: what is scanned in one go, at most, and else in a turn. The worst text takes 3 ns a byte.
 */
enum { SCANNING_SHORT = 64 * 1024, SCANNING_STEP = 16 * 1024 };

/* In a later turn; what was found is in the worker's envelope. `error` as of envelope_scan. */
typedef void scanning_done(struct exchange *x, int error, const struct envelope_fault *fault);

/* Scan the body of `x`, which must not have been begun. 0 or -ENOMEM. */
int scanning_start(struct exchange *x, scanning_done *done) MUST_CHECK;
/* What was found, into the worker's envelope. */
const struct envelope *scanning_found(const struct exchange *x);
/* The exchange is over. */
void scanning_leave(struct exchange *x);
void scanning_free(struct exchange *x);

#endif
