/*
 * sessions_question: what is asked of the broker, and the worker's end of it.
 *
 * Between sessions.c, which sends questions and hears the replies, and sessions_mail.c, whose
 * questions may have to wait until what they say is whole.
 */
#ifndef MARGAY_WORKER_MCP_SESSIONS_QUESTION_H
#define MARGAY_WORKER_MCP_SESSIONS_QUESTION_H

#include <uthash.h>

#include "common/backoff.h"
#include "common/ipc/frame.h"
#include "common/timeout.h"
#include "worker/mcp/parcel.h"
#include "worker/mcp/sessions.h"

struct session_cache;

enum {
	QUESTIONS_MAX = 1000,
	ENDS_MAX = 100000,  /* things that the broker is told and does not know yet */
	TOUCHES_MAX = 3000, /* ids that fit one frame */
};

struct question {
	TAILQ_ENTRY(question) link; /* unsent or asked, unless its parcel is held */
	UT_hash_handle hh;
	struct timeout timeout;
	struct sessions *sessions;
	struct session_call *call; /* NULL: cancelled, or nobody asked */
	unsigned *count;           /* of questions of its kind */
	uint32_t request;
	uint16_t type;
	bool sent;
	uint8_t reason; /* of an END */
	struct session_id id;
	struct session_record *record; /* of a CREATE or UPDATE */
	struct parcel parcel;          /* of a MAIL; its box also of others */
	size_t mail_length;
	uint8_t kind;
};

TAILQ_HEAD(question_list, question);

enum broker_state { BROKER_AWAY, BROKER_GREETING, BROKER_HERE };

struct sessions {
	struct ev_loop *loop;
	const struct role_boot *boot;
	struct metrics_slot *metrics;
	struct session_cache *cache;
	enum broker_state state;
	ev_io io;
	ev_timer reconnect, touch_timer;
	struct backoff backoff;
	double connected_at, lost_at;
	uint32_t epoch, next_request;
	uint32_t seconds; /* of touches: one for each turn of touch_timer */
	struct question *by_request;
	struct question_list unsent, asked;
	unsigned call_count, end_count;
	struct parcels held;
	struct mappings released; /* the memory of mail that came */
	size_t mail_bytes;        /* not delivered yet */
	struct timeout_queue patience;
	struct session_id touches[TOUCHES_MAX];
	unsigned touch_count;
	session_reaper *reap;
	session_invalidated *invalidated;
	void *reap_context;
	session_mail *mail;
	void (*reopen)(void *context);
	void (*mailed)(void *context);
	void *mail_context;
	void (*ready)(void *context);
	void *ready_context;
	char payload[FRAME_PAYLOAD_MAX];
};

/* A new one, with room for it checked by the caller. NULL when memory is short. */
struct question *sessions_ask(
    struct sessions *s, uint16_t type, const struct session_id *id, struct session_call *call);
/* Over: tell whoever asked. */
void sessions_answer(struct question *q, int status, const struct session_record *record);
void sessions_forget(struct question *q);
/* Send what is unsent, as far as the broker takes it. */
void sessions_send(struct sessions *s);
/* sessions_mail.c */
void sessions_mail_init(struct sessions *s);
/* A piece of mail from the broker; long, it is in `fd`, else that is -1. */
void sessions_take_mail(struct sessions *s, struct wire_reader *r, int fd);

#endif
