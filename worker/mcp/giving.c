/* giving: see giving.h. */
#include "worker/mcp/giving.h"

#include <errno.h>
#include <stdlib.h>

#include "common/turn.h"
#include "worker/mcp/exchange.h"

struct giving {
	struct exchange *exchange;
	struct span rest;      /* what is left of the message */
	struct buffer message; /* that it is in, or */
	struct mapping memory;
	ev_timer turn; /* due in the next one */
};

static void step(struct giving *g)
{
	struct exchange *x = g->exchange;
	struct conn *c = x->conn;
	size_t n = g->rest.n < GIVING_STEP ? g->rest.n : GIVING_STEP;

	relay_piece(x, (struct span){g->rest.p, n});
	conn_flush(c);
	if (c->exchange != x)
		return;
	g->rest = (struct span){g->rest.p + n, g->rest.n - n};
	if (g->rest.n == 0) {
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

static struct giving *giving_create(struct exchange *x, struct span message)
{
	struct giving *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->exchange = x;
	g->rest = message;
	ev_timer_init(&g->turn, on_turn, 0, 0);
	x->giving = g;
	return g;
}

int giving_start(struct exchange *x, struct buffer *message)
{
	struct giving *g = giving_create(x, buffer_span(message));

	if (!g)
		return -ENOMEM;
	g->message = *message;
	*message = (struct buffer){0};
	step(g);
	return 0;
}

int giving_start_mapped(struct exchange *x, struct span message, struct mapping *memory)
{
	struct giving *g = giving_create(x, message);

	if (!g)
		return -ENOMEM;
	g->memory = mapping_take(memory);
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
	mapping_release(&x->giving->memory);
	free(x->giving);
}
