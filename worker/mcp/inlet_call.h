/*
 * inlet_call: one message of an inlet's client on its way to this worker, and what comes back.
 *
 * Between inlet.c, which sends them and hears the answers, and inlet_take.c, which makes them of
 * what the client says.
 */
#ifndef MARGAY_WORKER_MCP_INLET_CALL_H
#define MARGAY_WORKER_MCP_INLET_CALL_H

#include "worker/mcp/inlet.h"
#include "worker/mcp/reading.h"

enum inlet_purpose {
	PURPOSE_MESSAGE,
	PURPOSE_STREAM,      /* GET */
	PURPOSE_INITIALIZE,  /* the client's own */
	PURPOSE_REOPEN,      /* the same once more: the session was forgotten */
	PURPOSE_INITIALIZED, /* after that */
	PURPOSE_END,         /* DELETE */
};

struct inlet_call {
	TAILQ_ENTRY(inlet_call) link; /* inlet's calls or waiting, or worker's closed_inlet_calls */
	struct inlet_call_list *list;
	struct inlet *inlet;
	struct upstream_call call;
	enum inlet_purpose purpose;
	struct span text; /* the message: in `body` or `memory`, or its owner's */
	struct buffer body;
	struct mapping memory;
	struct reading reading; /* of the answer */
	size_t expected;        /* length of one in JSON as announced; 0: not */
	struct sse_marks marks; /* where to go on with a stream that breaks off */
	struct span id;         /* of a request, raw, in text */
	ev_timer again;
	unsigned tries;
	struct scanning *scanning; /* of `text`, when that is long */
	bool initialized;          /* it says that the session is open */
	bool listens;              /* has no end of its own */
	bool in_session;
	bool cancelled; /* by its client */
	bool modern, sse, answered, refused, lost;
};

/* At the end of `waiting`. Without `copy` the message lives as long as the inlet. NULL when memory
 * is short. */
struct inlet_call *inlet_call_create(
    struct inlet *i, enum inlet_purpose purpose, struct span message, bool copy);
/* To the end of another list of its inlet's. */
void inlet_call_move(struct inlet_call *c, struct inlet_call_list *list);
/* Over; freed when the loop turns. */
void inlet_call_close(struct inlet_call *c);
/* Send what may be sent. */
void inlet_pump(struct inlet *i);
/* Its client has no use for the session any more. */
void inlet_leave_session(struct inlet *i);

#endif
