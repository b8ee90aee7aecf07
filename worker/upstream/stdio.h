/*
 * stdio: requests to the children of stdio upstreams, through the keeper.
 *
 * Owns this worker's connection to the keeper (reconnects with back-off; what was not sent yet
 * waits meanwhile). To those who call it is as HTTP: a lone answer is a JSON body, messages before
 * it make it an event stream, a child that is gone is 404. Calls in flight when the keeper goes end
 * with an error and are never sent again; open streams are declared anew.
 */
#ifndef MARGAY_WORKER_UPSTREAM_STDIO_H
#define MARGAY_WORKER_UPSTREAM_STDIO_H

#include "common/attributes.h"
#include "common/ipc/broker_proto.h"

struct stdio;
struct upstream_call;
struct worker;

/* Starts to connect. 0 or -ENOMEM. */
int stdio_open(struct worker *w, struct stdio **out) MUST_CHECK;
void stdio_close(struct stdio *s);
/* Write what this turn of the loop has put. */
void stdio_flush(struct stdio *s);
/* The session of this record was made: its child is its own from now on. */
void stdio_bind(struct stdio *s, const struct session_record *record);

/* As upstream_call_start, and so on, for calls to stdio upstreams. */
void stdio_call_start(struct stdio *s, struct upstream_call *call);
void stdio_call_pause(struct upstream_call *call, bool pause);
/* Forget it; the keeper is told unless it has nothing more for it. `cancel`: so is the child. */
void stdio_call_detach(struct upstream_call *call, bool cancel);

#endif
