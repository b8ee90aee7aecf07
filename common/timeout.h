/*
 * timeout: deadlines of equal length in one FIFO list behind one ev_timer.
 *
 * Arming, re-arming and disarming are O(1) without a heap (operations: same-length timeouts in one
 * list). One queue per kind of timeout and per loop. The callback gets an entry that is already
 * disarmed; at most TIMEOUT_BUDGET entries run per wake-up, so a storm of expiries yields to its
 * neighbours.
 */
#ifndef MARGAY_COMMON_TIMEOUT_H
#define MARGAY_COMMON_TIMEOUT_H

#include <ev.h>
#include <stdbool.h>
#include <bsd/sys/queue.h>

enum { TIMEOUT_BUDGET = 200 };

struct timeout {
	TAILQ_ENTRY(timeout) link;
	double deadline; /* clock_coarse(); 0 when not armed */
};

struct timeout_queue;
typedef void timeout_expired(struct timeout_queue *queue, struct timeout *timeout);

struct timeout_queue {
	TAILQ_HEAD(timeout_list, timeout) list;
	struct ev_loop *loop;
	ev_timer timer;
	double after; /* seconds; 0 or less: never expires */
	timeout_expired *expired;
};

void timeout_queue_init(
    struct timeout_queue *q, struct ev_loop *loop, double after, timeout_expired *expired);
/* Stop the timer; entries are forgotten. */
void timeout_queue_stop(struct timeout_queue *q);
/* Start, or start again, counting from now. */
void timeout_arm(struct timeout_queue *q, struct timeout *t);
/* Harmless when not armed. */
void timeout_disarm(struct timeout_queue *q, struct timeout *t);
static inline bool timeout_armed(const struct timeout *t)
{
	return t->deadline > 0;
}

#endif
