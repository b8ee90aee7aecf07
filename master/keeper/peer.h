/*
 * peer: one worker's connection to the keeper.
 *
 * What it asks is a row of a table; what it is told goes into its stream, written once for each
 * turn of the loop. A worker that is gone leaves nothing behind but children that sessions have.
 */
#ifndef MARGAY_MASTER_KEEPER_PEER_H
#define MARGAY_MASTER_KEEPER_PEER_H

#include "common/ipc/keeper_proto.h"
#include "master/keeper/link.h"

enum {
	PEER_HIGH_WATER = 4 * 1024 * 1024, /* unread bytes that stop children from being read */
	PEER_FULL = 64 * 1024 * 1024,      /* that stop all children, whoever they speak to */
};

/* A request that waits until the child is ready or may be started, or until it is scanned
 * (intake.h); then it runs as if it came. */
struct waiter {
	TAILQ_ENTRY(waiter) link;
	TAILQ_ENTRY(waiter) by_peer;
	struct waiter_list *list;
	unsigned *count;
	size_t *bytes;
	struct peer *peer;
	struct frame frame;
	/* In the intake: */
	struct scanning *scanning; /* NULL: it waits behind another */
	struct frame forget;       /* its worker's, to follow it; type 0: none */
	const char *taken;         /* of a batch: where the last message that was sent ends */
	uint32_t answers;          /* owed for what was sent */
	unsigned restarts;         /* of the child that got that */
	bool is_batch;
	char payload[];
};

struct peer {
	LIST_ENTRY(peer) dead;
	struct keeper *keeper;
	struct stream stream;
	unsigned index; /* the bit in instance.paused_by */
	bool greeted, closed;
	double congested_since; /* 0: it reads */
	TAILQ_HEAD(call_list, call) calls;
	TAILQ_HEAD(peer_outlets, outlet) outlets;
	struct waiter_list waiters;
};

/* Serve a connection under a free index. NULL when memory is short: it stays the caller's. */
struct peer *peer_create(struct keeper *k, unsigned index, int fd);
/* Serve an accepted connection (taken over in every case). */
void peer_open(struct keeper *k, int fd);
/* Close it; it is freed when the loop turns. */
void peer_close(struct peer *p, const char *why);
void peers_reap(struct keeper *k);
/* Run a request that was taken (intake.h). */
void peer_dispatch(struct peer *p, const struct frame *frame, struct span payload);
/* Tell the peer about its request. */
void peer_tell(struct peer *p, uint16_t type, uint32_t request, uint64_t target,
    const struct span *pieces, unsigned count);
void peer_fail(struct peer *p, uint32_t request, enum metric_reason reason, const char *why);
/* Let a request wait in a list. False when there is no room. */
bool waiter_create(struct waiter_list *list, unsigned *count, struct peer *p,
    const struct frame *frame, struct span payload) MUST_CHECK;
void waiter_free(struct waiter *w);
/* The two halves of that: take it off all lists; let go of what it has. */
void waiter_detach(struct waiter *w);
void waiter_drop(struct waiter *w);
/* Run, or fail, all of a list. */
void waiters_run(struct waiter_list *list);
void waiters_fail(struct waiter_list *list, enum metric_reason reason, const char *why);

/* A worker that has more to read than it should before any child is read again; NULL: none. */
struct peer *peer_full(const struct keeper *k);

/* deliver.c: one line of a child's stdout. */
void deliver_line(struct instance *i, struct span line);
/* The line that is held (common/lines.h), in later turns. False when memory is short. */
bool deliver_later(struct instance *i) MUST_CHECK;
/* A line that was too long, of which this is the beginning. */
void deliver_too_long(struct instance *i, struct span beginning);
/* Answer a question of the child's ourselves. */
void deliver_refuse(struct instance *i, struct span id, int code, const char *why);

/* Tell who waits for it, with the client's id in up to two places of the message. */
void deliver_to(
    struct call *call, uint16_t type, struct span message, struct span a, struct span b);
/* The call that an id or token of ours means; NULL: none. */
struct call *deliver_call_of(struct instance *i, struct span raw);

/* noise.c: one line for the log, at a bounded rate. */
void noise_stderr(struct instance *i, struct span line);
void noise_dropped(struct instance *i, enum metric_drop reason, struct span line);
/* Once a second: say what was held back. */
void noise_tick(struct instance *i);

#endif
