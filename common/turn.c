/* turn: see turn.h. */
#include "common/turn.h"

#include "common/attributes.h"
#include "common/clock.h"

static const uint64_t busy_warning = 50000; /* microseconds */

/* The turn under way: a process runs one loop, and callbacks know neither its owner nor, some, its
 * kind (common/timeout). */
static struct turn *under_way;

static void on_check(struct ev_loop *loop, ev_check *check, int events)
{
	struct turn *t = container_of(check, struct turn, check);

	(void)loop;
	(void)events;
	t->started = clock_nanoseconds();
	t->running = t->longest = "none";
	t->entered = clock_coarse_nanoseconds();
	t->took = 0;
	under_way = t;
}

void turn_watch(struct turn *t, struct ev_loop *loop)
{
	t->started = 0;
	ev_check_init(&t->check, on_check);
	/* Before every callback that the turn is for. */
	ev_set_priority(&t->check, EV_MAXPRI);
	ev_check_start(loop, &t->check);
}

void turn_enter(const char *name)
{
	struct turn *t = under_way;

	if (!t)
		return;
	uint64_t now = clock_coarse_nanoseconds();
	if (now - t->entered > t->took) {
		t->took = now - t->entered;
		t->longest = t->running;
	}
	t->entered = now;
	t->running = name;
}

void turn_end(struct turn *t, struct metrics_slot *metrics, struct log *log)
{
	if (t->started == 0)
		return;
	uint64_t busy = (clock_nanoseconds() - t->started) / 1000;
	METRIC_OBSERVE(metrics, LOOP_BUSY_SECONDS, busy, 0);
	if (busy > busy_warning) {
		turn_enter("none");
		LOG(log, LOG_LEVEL_WARN, "one turn of the loop took long", LOG_MILLIS("ms", busy),
		    LOG_STR("callback", t->longest), LOG_MILLIS("callback_ms", t->took / 1000));
	}
	under_way = NULL;
}
