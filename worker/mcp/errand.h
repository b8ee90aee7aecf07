/*
 * errand: one request of one era on its way to an upstream of the other, until its answer.
 *
 * Owns the message as it is sent and the call that carries it; takes the answer apart into messages
 * and leaves each to the direction it goes (down.c, up.c), which gives them to the client through
 * here. An answer that is one message becomes JSON; if something comes before it, an event stream.
 * Ids towards an upstream are numbers of the errand, so that clients may share a session. Closed in
 * any callback, freed between two turns of the loop.
 */
#ifndef MARGAY_WORKER_MCP_ERRAND_H
#define MARGAY_WORKER_MCP_ERRAND_H

#include "worker/mcp/exchange.h"
#include "worker/mcp/translate/translate.h"

enum { ERRAND_MESSAGE_MAX = 16 * 1024 * 1024 }; /* bytes of a message that is translated */

struct errand;

struct errand_way {
	/* One message of the upstream's. Answers with errand_answer, passes on with errand_notice.
	 */
	void (*message)(struct errand *r, const struct envelope *e);
	/* The upstream's 404 (legacy: it forgot the session). True when it was dealt with. */
	bool (*lost)(struct errand *r);
	/* Nobody waits for it any more before it was answered. */
	void (*abandoned)(struct errand *r);
};

struct errand {
	LIST_ENTRY(errand) link; /* worker's errands, or closed_errands */
	struct worker *worker;
	struct exchange *exchange; /* who waits for it */
	const struct errand_way *way;
	struct upstream_call call;
	struct buffer body;     /* the request as it goes to the upstream */
	struct buffer incoming; /* an answer in JSON, as it comes */
	struct buffer outgoing; /* a message on its way to the client */
	struct buffer kept;     /* backs spans of `translation` that must outlive a callback */
	struct sse_data events;
	struct translation translation;
	struct session_record record; /* the upstream's session; without state */
	char id[24];                  /* towards the upstream: a number */
	unsigned tries, answer_status;
	bool sse, answered;
};

/* For this exchange. NULL when memory is short. */
struct errand *errand_create(struct exchange *x, const struct errand_way *way);
/* Send what `body` and `call.head` hold. */
void errand_send(struct errand *r);
/* Begin a message for the client: compose it, then give it. */
struct compose errand_compose(struct errand *r);
/* Give what was composed: something before the answer (the exchange may be over afterwards); or the
 * answer, with its status if it is JSON. */
void errand_notice(struct errand *r, struct compose *c);
void errand_answer(struct errand *r, struct compose *c, unsigned status);
/* Refuse because of the upstream, in the middle of an answer or before it. */
void errand_fail(struct errand *r, int reason, const char *detail);
/* The exchange is over. */
void errand_leave(struct errand *r);
void errands_free_closed(struct worker *w);

#endif
