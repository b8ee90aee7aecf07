/* stay: see stay.h. */
#include "worker/stay.h"

#include <errno.h>
#include <stdlib.h>

#include "common/turn.h"
#include "worker/http/conn.h"
#include "worker/worker.h"

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct stay *stay = container_of(timer, struct stay, timer);

	turn_enter("stream leaves");
	(void)loop;
	(void)events;
	stay->over(stay->conn);
}

int stay_begin(struct stay **out, struct conn *c, stay_over *over)
{
	struct stay *stay = *out;

	if (!stay) {
		*out = stay = malloc(sizeof(*stay));
		if (!stay)
			return -ENOMEM;
		*stay = (struct stay){.conn = c, .over = over};
		ev_timer_init(&stay->timer, on_timer, 0, 0);
	}
	stay_stop(stay);
	ev_timer_set(&stay->timer, drain_wait(c->worker), 0);
	ev_timer_start(c->worker->loop, &stay->timer);
	return 0;
}

void stay_stop(struct stay *stay)
{
	ev_timer_stop(stay->conn->worker->loop, &stay->timer);
}
