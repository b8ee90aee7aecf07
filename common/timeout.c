/*
 * timeout: see timeout.h. All entries of a queue have the same length, so appending keeps the list
 * in order of its deadlines; the timer is set for the head and may wake early when the head was
 * disarmed since, never late.
 */
#include "common/timeout.h"

#include "common/attributes.h"
#include "common/clock.h"
#include "common/turn.h"

static void timer_set(struct timeout_queue *q)
{
	const struct timeout *head = TAILQ_FIRST(&q->list);

	ev_timer_stop(q->loop, &q->timer);
	if (!head)
		return;
	double wait = head->deadline - clock_coarse();
	ev_timer_set(&q->timer, wait > 0 ? wait : 0, 0);
	ev_timer_start(q->loop, &q->timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct timeout_queue *q = container_of(timer, struct timeout_queue, timer);
	struct timeout *t;

	turn_enter("timeout");
	(void)loop;
	(void)events;
	for (int budget = TIMEOUT_BUDGET; budget > 0 && (t = TAILQ_FIRST(&q->list)); budget--) {
		if (t->deadline > clock_coarse())
			break;
		timeout_disarm(q, t);
		q->expired(q, t);
	}
	timer_set(q);
}

void timeout_queue_init(
    struct timeout_queue *q, struct ev_loop *loop, double after, timeout_expired *expired)
{
	TAILQ_INIT(&q->list);
	q->loop = loop;
	q->after = after;
	q->expired = expired;
	ev_timer_init(&q->timer, on_timer, 0, 0);
}

void timeout_queue_stop(struct timeout_queue *q)
{
	ev_timer_stop(q->loop, &q->timer);
	TAILQ_INIT(&q->list);
}

void timeout_arm(struct timeout_queue *q, struct timeout *t)
{
	if (q->after <= 0)
		return;
	timeout_disarm(q, t);
	t->deadline = clock_coarse() + q->after;
	TAILQ_INSERT_TAIL(&q->list, t, link);
	if (!ev_is_active(&q->timer))
		timer_set(q);
}

void timeout_disarm(struct timeout_queue *q, struct timeout *t)
{
	if (!timeout_armed(t))
		return;
	TAILQ_REMOVE(&q->list, t, link);
	t->deadline = 0;
}
