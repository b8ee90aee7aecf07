/*
 * resume: a modern client's request again, with the answers to what it was asked.
 *
 * `requestState` tells in which box the call is parked, at this worker or another. It is told the
 * answers by mail, and everything that it still says comes back the same way. A call that is lost
 * is an error: what it did can't be undone, so it is never made again.
 */
#ifndef MARGAY_WORKER_MCP_RESUME_H
#define MARGAY_WORKER_MCP_RESUME_H

#include "common/ipc/wire.h"
#include "worker/mcp/exchange.h"

/* What a parked call is told; spans are into the mail, raw JSON, or empty. */
struct resumption {
	struct mail_box_id retry; /* who tells it */
	uint32_t round;
	struct span id, token, answers;
};

/* False when the mail is none. */
bool resumption_get(struct span mail, struct resumption *out);
/* True when the request is a retry of ours: it is answered or on its way then. */
bool resume_start(struct exchange *x, const struct envelope *e);
/* The same for a legacy client that lost the stream of its request (replay.h): true when its
 * Last-Event-ID is of such a one. */
bool resume_stream(struct exchange *x);
/* The exchange is over. */
void resume_leave(struct exchange *x);
void resume_free(struct exchange *x);
void resume_timeouts_init(struct worker *w);

#endif
