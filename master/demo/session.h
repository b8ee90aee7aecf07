/*
 * session: what the server knows about one client between its requests.
 *
 * A session is idle while nothing runs or streams for it; idle sessions stand in a list, least
 * recently used first, from which the oldest gives way to a new one when the table is full. So the
 * number of sessions is bounded and a session in use is never taken away.
 */
#ifndef MARGAY_MASTER_DEMO_SESSION_H
#define MARGAY_MASTER_DEMO_SESSION_H

#include <bsd/sys/queue.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/span.h"
#include "master/demo/exchange.h"

/* Out of memory refuses the session instead of ending the process. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { DEMO_SESSION_ID_TEXT = 32 };

/* In the order of their dates, so that they compare. */
enum revision {
	REVISION_2024_11_05,
	REVISION_2025_03_26,
	REVISION_2025_06_18,
	REVISION_2025_11_25
};
enum { REVISIONS = REVISION_2025_11_25 + 1 };
extern const char *const revision_names[REVISIONS];
/* False for a revision this server does not know. */
bool revision_parse(struct span name, enum revision *out);

struct session_table;

struct session {
	char id[DEMO_SESSION_ID_TEXT + 1]; /* 128 random bits in hexadecimal */
	UT_hash_handle hh;
	struct session_table *table;
	TAILQ_ENTRY(session) idle_link;
	TAILQ_ENTRY(session) subscriber_link;
	TAILQ_HEAD(, call) calls;       /* everything that runs for it */
	TAILQ_HEAD(, exchange) streams; /* open GET streams, oldest first */
	TAILQ_HEAD(, exchange) members; /* exchanges in the session */
	unsigned calls_running;
	enum revision revision;
	int log_level;    /* rows of the level table in protocol.c; least serious one sent */
	uint64_t counter; /* of the `count` tool */
	uint64_t asked;   /* elicitations sent; numbers the next one */
	bool initialized; /* initialize was answered */
	bool can_elicit;  /* the client takes form elicitations */
	bool idle;        /* stands in the idle list */
	bool subscribed;  /* to demo://greeting */
	bool notify;      /* stands in `to_notify` instead of `subscribers` */
	bool updated;     /* an update waits for a stream to go out on */
};

TAILQ_HEAD(session_list, session);

struct session_table {
	struct session *by_id;
	struct session_list idle;
	struct session_list subscribers;
	struct session_list to_notify; /* subscribers that are to hear of an update */
	unsigned max;
};

void session_table_init(struct session_table *table, unsigned max);
/* End all sessions. No exchange may be in any of them. */
void session_table_release(struct session_table *table);

/* A new session, not idle only once entered. 0; -ENOBUFS when the table is full of busy sessions;
 * -ENOMEM; -EIO without random numbers. */
int session_create(struct session_table *table, struct session **out) MUST_CHECK;
struct session *session_find(const struct session_table *table, struct span id);
/* Put an exchange into the session, and take it out (nothing happens when it is in none). */
void session_enter(struct session *s, struct exchange *x);
void session_leave(struct exchange *x);
/* Make the exchange a stream for messages that belong to no request. */
void session_stream(struct session *s, struct exchange *x);
/* End it: what runs is answered with an error, its streams are told to close with a NULL answer. */
void session_end(struct session *s);

/* Subscribe to, or unsubscribe from, the greeting. */
void session_subscribe(struct session *s, bool on);
/* The greeting changed: mark all subscribers to be told. */
void session_touch(struct session_table *table);
/* Tell at most `budget` subscribers. True when there are more to tell. */
bool session_notify(struct session_table *table, unsigned budget);

#endif
