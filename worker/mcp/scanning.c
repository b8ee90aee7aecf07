/* scanning: see scanning.h. */
#include "worker/mcp/scanning.h"

#include <errno.h>
#include <stdlib.h>

#include "common/turn.h"
#include "worker/mcp/exchange.h"
#include "worker/worker.h"

struct scanning {
	struct exchange *exchange;
	struct envelope_steps *steps;
	scanning_done *done;
	ev_timer turn; /* due in the next one */
};

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct scanning *s = container_of(timer, struct scanning, turn);
	struct exchange *x = s->exchange;
	struct envelope_fault fault = {0};

	turn_enter("scan");
	(void)events;
	int error = envelope_step(s->steps, SCANNING_STEP, &x->worker->envelope, &fault);
	if (error != -EAGAIN) {
		s->done(x, error, &fault);
		return;
	}
	ev_timer_set(timer, 0, 0);
	ev_timer_start(loop, timer);
}

int scanning_start(struct exchange *x, scanning_done *done)
{
	struct scanning *s = calloc(1, sizeof(*s));

	if (s)
		s->steps = envelope_steps_begin(
		    buffer_span(&x->body), x->worker->config->limits.json_depth);
	if (!s || !s->steps) {
		free(s);
		return -ENOMEM;
	}
	s->exchange = x;
	s->done = done;
	x->scanning = s;
	ev_timer_init(&s->turn, on_turn, 0, 0);
	ev_timer_start(x->worker->loop, &s->turn);
	return 0;
}

const struct envelope *scanning_found(const struct exchange *x)
{
	envelope_steps_found(x->scanning->steps, &x->worker->envelope);
	return &x->worker->envelope;
}

void scanning_leave(struct exchange *x)
{
	ev_timer_stop(x->worker->loop, &x->scanning->turn);
}

void scanning_free(struct exchange *x)
{
	if (!x->scanning)
		return;
	envelope_steps_free(x->scanning->steps);
	free(x->scanning);
}
