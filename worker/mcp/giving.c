/* giving: see giving.h. */
#include "worker/mcp/giving.h"

#include <errno.h>
#include <stdlib.h>

#include "common/turn.h"
#include "worker/mcp/exchange.h"

struct giving {
	struct exchange *exchange;
	struct buffer message; /* what is left of it */
	ev_timer turn;         /* due in the next one */
};

static void step(struct giving *g)
{
	struct exchange *x = g->exchange;
	struct conn *c = x->conn;
	struct span rest = buffer_span(&g->message);

	if (rest.n > GIVING_STEP)
		rest.n = GIVING_STEP;
	relay_piece(x, rest);
	conn_flush(c);
	if (c->exchange != x)
		return;
	buffer_consume(&g->message, rest.n);
	if (buffer_length(&g->message) == 0) {
		relay_over(x, UPSTREAM_OK, "");
	} else if (!conn_congested(c)) {
		ev_timer_set(&g->turn, 0, 0);
		ev_timer_start(x->worker->loop, &g->turn);
	}
}

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("answer");
	(void)loop;
	(void)events;
	step(container_of(timer, struct giving, turn));
}

int giving_start(struct exchange *x, struct buffer *message)
{
	struct giving *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->exchange = x;
	g->message = *message;
	*message = (struct buffer){0};
	ev_timer_init(&g->turn, on_turn, 0, 0);
	x->giving = g;
	step(g);
	return 0;
}

void giving_go_on(struct exchange *x)
{
	if (!ev_is_active(&x->giving->turn))
		step(x->giving);
}

void giving_stop(struct exchange *x)
{
	ev_timer_stop(x->worker->loop, &x->giving->turn);
}

void giving_free(struct exchange *x)
{
	if (!x->giving)
		return;
	buffer_release(&x->giving->message);
	free(x->giving);
}
