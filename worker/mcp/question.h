/*
 * question: a modern upstream needs input before it can answer a legacy client (mcp-wire 3.3).
 *
 * Each of its inputRequests becomes a request on the stream of the client's own; what the client
 * answers, at any worker, comes here by mail, and when all is there the request is made again with
 * it. The id of such a request names the box.
 */
#ifndef MARGAY_WORKER_MCP_QUESTION_H
#define MARGAY_WORKER_MCP_QUESTION_H

#include "worker/mcp/errand.h"

/* The upstream answered with input_required. */
void question_ask(struct errand *r, const struct envelope *e);
/* A legacy client's response: to whom it is. */
void question_answered(struct exchange *x, const struct envelope *e);
/* Whether the errand waits for its client, so that the end of the upstream's answer is none. */
bool question_ended(struct errand *r);
void question_free(struct errand *r);
void question_timeouts_init(struct worker *w);

#endif
