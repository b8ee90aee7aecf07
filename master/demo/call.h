/*
 * call: a tool call that does not finish at once.
 *
 * It belongs to the exchange that will carry its answer and to its session, and ends by answering,
 * by being cancelled, or with either owner. Its timer never outlives it.
 */
#ifndef MARGAY_MASTER_DEMO_CALL_H
#define MARGAY_MASTER_DEMO_CALL_H

#include <bsd/sys/queue.h>
#include <cjson/cJSON.h>
#include <ev.h>

#include "master/demo/protocol.h"

struct call {
	TAILQ_ENTRY(call) exchange_link;
	TAILQ_ENTRY(call) session_link;
	struct exchange *exchange;
	struct session *session;
	struct ev_loop *loop;
	ev_timer timer; /* of sleep: one step */
	char *id;       /* of the request, JSON text */
	char *token;    /* progress token, JSON text; NULL when none was given */
	char *ask_id;   /* of the elicitation that is open, JSON text; NULL for sleep */
	unsigned steps; /* of sleep */
	unsigned done;  /* steps slept */
	double milliseconds;
};

/* Sleep in `steps` equal parts (at least 1) with progress after each. 0, -ENOMEM or -EBUSY when the
 * session runs too many calls; then nothing was answered. */
int call_sleep(const struct request *r, double milliseconds, unsigned steps) MUST_CHECK;
/* Ask the user (elicitation/create, 2025-06-18). Errors as call_sleep. */
int call_ask(const struct request *r, const char *question) MUST_CHECK;
/* The client's response to a request of ours; one that fits no open call is ignored. */
void call_response(struct session *s, const char *id, const cJSON *response);
/* notifications/cancelled for the request: it gets no answer. Unknown ids are ignored. */
void call_cancel(struct session *s, const char *id);
/* Answer the elicitations of the exchange with an error: the client can't respond any more. */
void call_abandon_asks(struct exchange *x);
/* Forget it without an answer. */
void call_drop(struct call *call);

#endif
