/* turn: see turn.h. */
#include "common/turn.h"

#include "common/attributes.h"
#include "common/clock.h"

static const uint64_t busy_warning = 50000; /* microseconds */

static void on_check(struct ev_loop *loop, ev_check *check, int events)
{
	(void)loop;
	(void)events;
	container_of(check, struct turn, check)->started = clock_nanoseconds();
}

void turn_watch(struct turn *t, struct ev_loop *loop)
{
	t->started = 0;
	ev_check_init(&t->check, on_check);
	ev_check_start(loop, &t->check);
}

void turn_end(struct turn *t, struct metrics_slot *metrics, struct log *log)
{
	if (t->started == 0)
		return;
	uint64_t busy = (clock_nanoseconds() - t->started) / 1000;
	METRIC_OBSERVE(metrics, LOOP_BUSY_SECONDS, busy, 0);
	if (busy > busy_warning)
		LOG(log, LOG_LEVEL_WARN, "one turn of the loop took long", LOG_MILLIS("ms", busy));
}
