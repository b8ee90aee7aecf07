/*
 * aside: what is said to an upstream while nobody waits for its answer.
 *
 * The end of a session that is over on our side; the cancellation of a request whose client went;
 * the answer to a question of its own. At most ASIDES_MAX are under way in a worker; beyond that
 * the upstream's own time-outs have to do. What an upstream answers is not an error: it may refuse
 * to end a session (405).
 */
#ifndef MARGAY_WORKER_MCP_ASIDE_H
#define MARGAY_WORKER_MCP_ASIDE_H

#include "common/ipc/broker_proto.h"

struct upstream;
struct worker;

/* End the upstream's side of a session. */
void aside_end_session(struct worker *w, const struct session_record *record);
/* Send a notification or response (copied) in the session of `record`. */
void aside_post(struct upstream *u, const struct session_record *record, struct span message);
/* Give up on those under way. */
void asides_close(struct worker *w);

#endif
