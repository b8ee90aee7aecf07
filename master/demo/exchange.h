/*
 * exchange: where the messages that belong to one piece of input are sent.
 *
 * Over HTTP an exchange is one POST (answers and whatever comes before them) or one GET stream;
 * over stdio it is the whole conversation. The transport embeds and owns it and implements the
 * operations, which only queue: none of them writes, frees or calls back.
 */
#ifndef MARGAY_MASTER_DEMO_EXCHANGE_H
#define MARGAY_MASTER_DEMO_EXCHANGE_H

#include <bsd/sys/queue.h>
#include <stdbool.h>

#include "master/demo/message.h"

struct call;
struct exchange;
struct session;

struct exchange_ops {
	/* A notification or request, before the answers. */
	void (*side)(struct exchange *x, const struct message *m);
	/* One answer; NULL when the request was cancelled and gets none. `pending` is already
	 * down. */
	void (*answer)(struct exchange *x, const struct message *m);
	/* Out of memory: nothing sensible can be sent on this exchange any more. */
	void (*fail)(struct exchange *x);
};

struct exchange {
	const struct exchange_ops *ops;
	struct session *session; /* NULL before initialize */
	TAILQ_HEAD(exchange_calls, call) calls;
	TAILQ_ENTRY(exchange) member_link; /* in session->members */
	TAILQ_ENTRY(exchange) stream_link; /* in session->streams, when `streaming` */
	unsigned pending;                  /* requests not answered yet */
	bool streaming;
};

void exchange_init(struct exchange *x, const struct exchange_ops *ops);
/* Drop what still runs for it and leave its session. The session is kept. */
void exchange_close(struct exchange *x);

/* Send and release a message; `error` is the result of having built it. */
void exchange_side(struct exchange *x, int error, struct message *m);
void exchange_answer(struct exchange *x, int error, struct message *m);
/* The answers by content. They take over the cJSON value; NULL means out of memory. */
void exchange_result(struct exchange *x, const char *id, cJSON *result);
void exchange_error(struct exchange *x, const char *id, int code, const char *text);
/* A tool result with one text. */
void exchange_text(struct exchange *x, const char *id, const char *text, bool is_error);

#endif
