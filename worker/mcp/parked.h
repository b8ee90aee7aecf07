/*
 * parked: a legacy upstream asks the client of a call, and that client is of the stateless era.
 *
 * Then the call's answer becomes `input_required` with what was asked (mcp-wire 3.3) and the call
 * waits here, its connection to the upstream open, until the client sends its request again with
 * the answers, to whatever worker: that one finds the call by the box in `requestState` (resume.h).
 * Each round works once. A client that does not come back within timeouts.client_input has
 * declined, and its call is cancelled.
 */
#ifndef MARGAY_WORKER_MCP_PARKED_H
#define MARGAY_WORKER_MCP_PARKED_H

#include "worker/mcp/errand.h"

/* The upstream asks. False when its client can't be asked this. The worker's envelope, which `e`
 * may be, holds something else then. */
bool parked_ask(struct errand *r, const struct envelope *e);
/* Whether nobody waits for the call for now: then its messages come here instead. */
bool parked_keep(struct errand *r, const struct envelope *e);
/* The upstream's answer ended; true when that is kept until the client is back. */
bool parked_ended(struct errand *r);
void parked_free(struct errand *r);
/* All of them: nobody will come back. */
void parked_give_up(struct worker *w);
void parked_timeouts_init(struct worker *w);

#endif
