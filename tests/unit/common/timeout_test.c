/* timeout: order, budget, and what callbacks may do. */
#include "common/timeout.h"

#include <criterion/criterion.h>

#include "common/attributes.h"

struct clocked {
	struct timeout_queue queue;
	struct timeout rows[TIMEOUT_BUDGET + 10];
	int order[TIMEOUT_BUDGET + 10];
	int expired;
	int again;     /* row that re-arms itself once, or -1 */
	int cancelled; /* row that the first expiry disarms, or -1 */
};

static void on_expired(struct timeout_queue *queue, struct timeout *timeout)
{
	struct clocked *c = container_of(queue, struct clocked, queue);
	int row = (int)(timeout - c->rows);

	cr_assert_not(timeout_armed(timeout));
	c->order[c->expired++] = row;
	if (row == c->again) {
		c->again = -1;
		timeout_arm(queue, timeout);
	}
	if (c->cancelled >= 0) {
		timeout_disarm(queue, &c->rows[c->cancelled]);
		c->cancelled = -1;
	}
}

static struct ev_loop *start(struct clocked *c, double after)
{
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);

	*c = (struct clocked){.again = -1, .cancelled = -1};
	timeout_queue_init(&c->queue, loop, after, on_expired);
	return loop;
}

Test(timeout, expires_in_the_order_of_arming_and_rearming)
{
	struct clocked c;
	struct ev_loop *loop = start(&c, 0.01);

	for (int i = 0; i < 4; i++)
		timeout_arm(&c.queue, &c.rows[i]);
	timeout_arm(&c.queue, &c.rows[0]);
	timeout_disarm(&c.queue, &c.rows[2]);
	timeout_disarm(&c.queue, &c.rows[2]);
	ev_run(loop, 0);
	cr_assert_eq(c.expired, 3);
	cr_assert_eq(c.order[0], 1);
	cr_assert_eq(c.order[1], 3);
	cr_assert_eq(c.order[2], 0);
	ev_loop_destroy(loop);
}

Test(timeout, a_callback_may_rearm_itself_and_disarm_others)
{
	struct clocked c;
	struct ev_loop *loop = start(&c, 0.01);

	for (int i = 0; i < 3; i++)
		timeout_arm(&c.queue, &c.rows[i]);
	c.again = 0;
	c.cancelled = 1;
	ev_run(loop, 0);
	cr_assert_eq(c.expired, 3);
	cr_assert_eq(c.order[0], 0);
	cr_assert_eq(c.order[1], 2);
	cr_assert_eq(c.order[2], 0);
	ev_loop_destroy(loop);
}

Test(timeout, a_storm_of_expiries_yields_to_the_loop)
{
	struct clocked c;
	struct ev_loop *loop = start(&c, 0.001);
	int count = TIMEOUT_BUDGET + 10;

	for (int i = 0; i < count; i++)
		timeout_arm(&c.queue, &c.rows[i]);
	while (c.expired == 0)
		ev_run(loop, EVRUN_ONCE);
	cr_assert_leq(c.expired, TIMEOUT_BUDGET);
	ev_run(loop, 0);
	cr_assert_eq(c.expired, count);
	ev_loop_destroy(loop);
}

Test(timeout, a_length_of_zero_never_expires)
{
	struct clocked c;
	struct ev_loop *loop = start(&c, 0);

	timeout_arm(&c.queue, &c.rows[0]);
	cr_assert_not(timeout_armed(&c.rows[0]));
	cr_assert_eq(ev_run(loop, EVRUN_NOWAIT), 0);
	ev_loop_destroy(loop);
}
