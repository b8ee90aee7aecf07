/*
 * session: what the upstream keeps of a session: its id and how far its events have come.
 *
 * An event's text follows from its number, so the last SESSION_KEPT events are kept by keeping two
 * numbers. They count up, by the server's clock, from the moment the session is first listened to
 * until it ends, whether or not a stream is open: what a client misses meanwhile is there to be
 * replayed, and can be missed.
 */
#ifndef MARGAY_TESTS_LOAD_UPSTREAM_SESSION_H
#define MARGAY_TESTS_LOAD_UPSTREAM_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include <bsd/sys/queue.h>

#include "common/attributes.h"
#include "common/span.h"

enum { SESSION_KEPT = 1000, SESSION_ID_LENGTH = 32 };

struct conn;

struct session {
	char id[SESSION_ID_LENGTH + 1];
	uint64_t last;       /* number of the newest event; 0: none yet */
	struct conn *stream; /* the one its events go to */
	bool listened;
	LIST_ENTRY(session) link; /* of those that are listened to */
	UT_hash_handle hh;
};

struct sessions {
	struct session *table;
	LIST_HEAD(session_list, session) listened;
	unsigned max;
};

/* 0 with *out the table's; -EAGAIN when there are `max` already, -ENOMEM, or what getrandom says.
 */
int session_create(struct sessions *all, struct session **out) MUST_CHECK;
struct session *session_find(const struct sessions *all, struct span id);
/* The caller has ended its stream. */
void session_end(struct sessions *all, struct session *s);
/* From now on its events are counted. */
void session_listen(struct sessions *all, struct session *s);
/* The next event of every session that is listened to. */
void sessions_tick(struct sessions *all);
/* The number to go on with for a client that has seen `seen`, or anything for 0. */
uint64_t session_next(const struct session *s, uint64_t seen);

#endif
