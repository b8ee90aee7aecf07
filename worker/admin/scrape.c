/* scrape: see scrape.h. */
#include "worker/admin/scrape.h"

#include <stdlib.h>

#include "common/metrics/metrics.h"
#include "common/turn.h"
#include "worker/http/conn.h"
#include "worker/worker.h"

enum { SCRAPE_PORTION = 64 * 1024 }; /* bytes, about 0.2 ms */

struct scrape {
	struct conn *conn;
	struct exposition *exposition;
	struct buffer text; /* of this portion */
	ev_timer turn;      /* due in the next one */
};

void scrape_leave(struct conn *c)
{
	struct scrape *s = c->scrape;

	if (!s)
		return;
	c->scrape = NULL;
	ev_timer_stop(c->worker->loop, &s->turn);
	exposition_end(s->exposition);
	buffer_release(&s->text);
	free(s);
}

/* The next portion, and when the one after it comes. */
static void go_on(struct scrape *s)
{
	struct conn *c = s->conn;
	int done = exposition_more(s->exposition, SCRAPE_PORTION, &s->text);

	if (done < 0) {
		conn_break(c);
		return;
	}
	conn_body(c, buffer_span(&s->text));
	conn_flush(c);
	if (c->closed)
		return;
	buffer_consume(&s->text, buffer_length(&s->text));
	if (done) {
		scrape_leave(c);
		conn_end(c);
	} else if (!conn_congested(c)) {
		ev_timer_set(&s->turn, 0, 0);
		ev_timer_start(c->worker->loop, &s->turn);
	}
}

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("scrape");
	(void)loop;
	(void)events;
	go_on(container_of(timer, struct scrape, turn));
}

void scrape_start(struct conn *c)
{
	static const struct span type = {
	    "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n", 56};
	struct scrape *s = calloc(1, sizeof(*s));

	if (!s || exposition_begin(c->worker->boot->metrics, &s->exposition)) {
		free(s);
		conn_answer(c, 503, (struct span){0}, SPAN("out of memory\n"));
		return;
	}
	s->conn = c;
	c->scrape = s;
	ev_timer_init(&s->turn, on_turn, 0, 0);
	/* Rendered anew each time: a text kept by one worker would be older than its neighbour's.
	 */
	conn_begin(c, 200, CONN_LENGTH_UNKNOWN, type, SPAN("Cache-Control: no-store\r\n"));
	if (!c->closed)
		go_on(s);
}

void scrape_drained(struct conn *c)
{
	if (c->scrape && !ev_is_active(&c->scrape->turn))
		go_on(c->scrape);
}
