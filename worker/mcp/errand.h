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

#include "worker/mcp/catalogue.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/reading.h"
#include "worker/mcp/translate/translate.h"

enum { ERRAND_MESSAGE_MAX = 16 * 1024 * 1024 }; /* bytes of a message that is translated */

struct errand;
struct parked;
struct question;
struct replay;

struct errand_way {
	enum upstream_action action; /* what the upstream is asked with */
	bool resumes;                /* its client may go on with its stream, see replay.h */
	/* One message of the upstream's. Answers with errand_answer, passes on with errand_notice.
	 */
	void (*message)(struct errand *r, const struct envelope *e);
	/* The upstream refused with a status of 400 or more. True when that was dealt with. */
	bool (*refused)(struct errand *r, unsigned status, bool json);
	/* The client closed its connection before the answer. True: go on without it. */
	bool (*abandoned)(struct errand *r);
	/* The upstream's answer ended without a response (its own way of failing included). True
	 * when that is no failure. */
	bool (*ended)(struct errand *r);
	/* It is closed; what the direction keeps for it can go. Called once. */
	void (*closed)(struct errand *r);
};

struct errand {
	LIST_ENTRY(errand) link; /* worker's errands, or closed_errands */
	struct worker *worker;
	const struct errand_way *way;
	/* Who waits for it: an exchange of this worker; a client's retry at any worker, by its box;
	 * or nobody for now. */
	struct exchange *exchange;
	struct mail_box_id retry;
	bool remote;

	struct upstream_call call;
	struct buffer taken;       /* the exchange's body, when that is long; lent */
	struct buffer body;        /* the request as it goes to the upstream */
	struct scanning *found;    /* in `taken` */
	struct splicing *splicing; /* of `body` or `outgoing`, when that is long */
	void (*spliced)(struct errand *r);
	struct reading reading; /* of what the upstream says */
	size_t expected;        /* length of an answer in JSON as announced; 0: not */
	struct buffer outgoing; /* a message on its way to the client */
	struct buffer kept;     /* backs spans of `translation` that must outlive a callback */
	struct translation translation;
	struct session_id client;   /* session of a legacy client */
	struct span state, request; /* that one's state (virtual.h), its message; kept */
	struct session_record
	    *record;           /* the upstream's session, without state; NULL: it has none */
	unsigned capabilities; /* of that session */
	unsigned missing;      /* what the upstream asked beyond these */
	struct lease *lease;   /* its session, if it is nobody else's */
	char id[24];           /* towards the upstream: a number */
	unsigned tries, answer_status;
	bool sse, answered, delivered, closed, cancelled;
	bool again; /* to be sent once more, when the upstream has said all */
	struct catalogue_wait catalogue;
	struct parked *parked; /* its upstream asked the client, see parked.h */
	struct replay *replay; /* what was said, for a client that lost its connection */
	struct timeout prime;
	struct question *questions; /* the same the other way, see question.h */
};

/* For this exchange. NULL when memory is short. */
struct errand *errand_create(struct exchange *x, const struct errand_way *way);
/* A new id towards the upstream. */
void errand_number(struct errand *r);
/* Take the exchange's body, which may be needed when that is over, and what was found in it. What
 * points into it stays valid. */
struct span errand_take_request(struct errand *r);
/* Compose `body`, from a message that stays where it is. */
struct compose errand_compose_request(struct errand *r, size_t bound);
/* What was composed in `text` has cuts, or not: put them in, and then do the rest. 0 or -ENOMEM. */
int errand_splice(struct errand *r, struct buffer *text, const struct compose *c,
    void (*then)(struct errand *r)) MUST_CHECK;
/* Send what `body` and `call.head` hold. */
void errand_send(struct errand *r);
/* Begin a message for the client: compose it, then give it. The answer, whose long values stay
 * where they came. */
struct compose errand_compose(struct errand *r);
struct compose errand_compose_answer(struct errand *r);
/* What is composed so far. */
struct span errand_message(const struct errand *r);
/* Give what was composed: something before the answer (the exchange may be over afterwards); or the
 * answer, with its status if it is JSON. */
void errand_notice(struct errand *r, struct compose *c);
void errand_answer(struct errand *r, struct compose *c, unsigned status);
/* Give an answer that ends the client's request but not the errand. */
void errand_interrupt(struct errand *r, struct compose *c);
/* Refuse because of the upstream, in the middle of an answer or before it. The errand is over. */
void errand_fail(struct errand *r, int reason, const char *detail);
/* Somebody waits for it. */
bool errand_is_heard(const struct errand *r);
/* Or may come back for it. */
bool errand_is_awaited(const struct errand *r);
/* Some client may come back, here or at another worker, for what is under way or answered. */
bool errands_awaited(const struct worker *w);
/* Take a message as if it came from the upstream; a long one, whose buffer is taken over, in later
 * turns. */
void errand_take(struct errand *r, struct span message);
void errand_take_long(struct errand *r, struct buffer *message);
/* Give the answer that there is: the errand is over. */
void errand_deliver(struct errand *r);
/* Tell the upstream that a legacy request is cancelled. */
void errand_cancel(struct errand *r);
/* The exchange is over. */
void errand_leave(struct errand *r);
void errand_close(struct errand *r);
void errands_free_closed(struct worker *w);
/* Give up on those that nobody waits for here. */
void errands_close(struct worker *w);

#endif
