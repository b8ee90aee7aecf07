/* listen: see listen.h. */
#include "worker/mcp/listen.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/mcp/source.h"
#include "worker/route.h"

/* Seconds: after a failure; after a change, as these come in bursts. */
static const double again_after = 1, soon_after = 0.05;

static const char box_purpose[] = "stream";

struct listening {
	struct exchange *exchange;
	struct mailbox box; /* says to the broker that this session has its stream */
	struct hearer hearer;
	struct timeout look; /* at the session */
	struct timeout_queue *look_queue;
};

/* --- what it is to hear --- */

static void look_after(struct listening *l, struct timeout_queue *queue)
{
	if (timeout_armed(&l->look))
		timeout_disarm(l->look_queue, &l->look);
	l->look_queue = queue;
	timeout_arm(queue, &l->look);
}

static void hear(struct listening *l, const struct session_record *record)
{
	struct exchange *x = l->exchange;

	if (source_hear(&l->hearer, x->route->upstream, record->state))
		look_after(l, &x->worker->timeouts.listen_again);
}

static void on_record(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);

	if (status == 0)
		hear(x->listening, record);
	else if (status == -ENOENT) /* it ended */
		relay_end_stream(x);
	else
		look_after(x->listening, &x->worker->timeouts.listen_again);
}

static void look(struct listening *l)
{
	struct exchange *x = l->exchange;
	struct sessions *sessions = x->worker->sessions;
	int error = 0;

	session_call_cancel(sessions, &x->lookup);
	x->lookup.done = on_record;
	const struct session_record *record =
	    sessions_get(sessions, &x->session, &x->lookup, &error);
	if (record)
		hear(l, record);
	else if (error)
		look_after(l, &x->worker->timeouts.listen_again);
}

static void on_look(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	look(container_of(timeout, struct listening, look));
}

void listen_hears(struct hearer *h, struct span events)
{
	struct exchange *x = container_of(h, struct listening, hearer)->exchange;
	struct conn *c = x->conn;

	relay_piece(x, events);
	if (c->exchange == x)
		conn_flush(c);
	/* One that does not read is not waited for: others would have to wait, too. */
	if (c->exchange == x && conn_congested(c))
		conn_break(c);
}

/* Perhaps with the session, which others may have ended. */
void listen_lost(struct hearer *h)
{
	struct listening *l = container_of(h, struct listening, hearer);

	if (!timeout_armed(&l->look))
		look_after(l, &l->exchange->worker->timeouts.listen_again);
}

/* --- the client's stream --- */

static void on_opened(struct mailbox *box, int status)
{
	struct listening *l = container_of(box, struct listening, box);
	struct exchange *x = l->exchange;
	struct conn *c = x->conn;

	if (status) {
		exchange_refuse(x, status == -EPROTO ? REPLY_SECOND_STREAM : REPLY_BROKER_AWAY,
		    NULL, (struct span){0});
		return;
	}
	x->upstream_started = clock_microseconds();
	relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		conn_flush(c);
	if (c->exchange == x)
		look(l);
}

static void on_mail(struct mailbox *box, enum mail_kind kind, struct span payload)
{
	(void)box;
	(void)kind;
	(void)payload;
}

void listen_start(struct exchange *x)
{
	struct worker *w = x->worker;
	struct listening *l = calloc(1, sizeof(*l));

	if (!l) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	l->exchange = x;
	l->box.opened = on_opened;
	l->box.mail = on_mail;
	x->listening = l;
	timeout_arm(&w->timeouts.session_touch, &x->touch);
	/* As long as the session's, so that nobody can guess it. */
	int error = mailbox_open_as(w, &l->box, box_purpose, &x->session);
	if (error)
		exchange_refuse(x, error == -EEXIST ? REPLY_SECOND_STREAM : REPLY_BROKER_AWAY, NULL,
		    (struct span){0});
}

void listen_leave(struct exchange *x)
{
	struct listening *l = x->listening;

	source_leave(&l->hearer);
	if (timeout_armed(&l->look))
		timeout_disarm(l->look_queue, &l->look);
	mailbox_close(&l->box);
}

void listen_free(struct exchange *x)
{
	free(x->listening);
}

void listen_changed(struct worker *w, const struct session_id *session)
{
	struct mailbox *box = mailbox_find(w, box_purpose, session);
	struct listening *l = box ? container_of(box, struct listening, box) : NULL;

	if (l && l->exchange->answering)
		look_after(l, &w->timeouts.listen_soon);
}

void listen_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.listen_again, w->loop, again_after, on_look);
	timeout_queue_init(&w->timeouts.listen_soon, w->loop, soon_after, on_look);
}
