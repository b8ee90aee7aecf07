/* listen: see listen.h. */
#include "worker/mcp/listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "worker/mcp/access.h"
#include "worker/mcp/source.h"
#include "worker/mcp/streams.h"
#include "worker/route.h"
#include "worker/stay.h"

/* Seconds: after a failure; after a change, as these come in bursts. */
static const double again_after = 1, soon_after = 0.05;

static const char box_purpose[] = "stream";

/* Idle for hours: it is to be small. */
struct listening {
	LIST_ENTRY(listening) link; /* worker's listenings, or closed_listenings */
	struct conn *conn;
	const struct route *route;
	struct mailbox box; /* says to the broker that this session has its stream */
	struct hearer hearer;
	struct session_call lookup;
	struct timeout look; /* at the session */
	struct timeout heartbeat, touch;
	struct stay *stay; /* while the worker drains */
	uint64_t started;
	struct session_id session;
	bool begun;     /* the conn is its own; before, it is the exchange's */
	bool look_soon; /* of the queues, that of `look` */
	char trace[];   /* for the log, see exchange.h */
};

static void look(struct listening *l);
static const struct conn_handler listen_handler;

static struct worker *worker_of(const struct listening *l)
{
	return l->conn->worker;
}

static struct timeout_queue *look_queue(const struct listening *l)
{
	struct worker_timeouts *t = &worker_of(l)->timeouts;

	return l->look_soon ? &t->listen_soon : &t->listen_again;
}

/* --- the end --- */

static void listening_close(struct listening *l)
{
	struct worker *w = worker_of(l);

	source_leave(&l->hearer);
	session_call_cancel(w->sessions, &l->lookup);
	timeout_disarm(look_queue(l), &l->look);
	timeout_disarm(&w->timeouts.listen_heartbeat, &l->heartbeat);
	timeout_disarm(&w->timeouts.listen_touch, &l->touch);
	if (l->stay)
		stay_stop(l->stay);
	mailbox_close(&l->box);
	LIST_REMOVE(l, link);
	LIST_INSERT_HEAD(&w->closed_listenings, l, link);
}

void listen_leave(struct exchange *x)
{
	listening_close(x->listening);
}

void listenings_free_closed(struct worker *w)
{
	struct listening *l;

	while ((l = LIST_FIRST(&w->closed_listenings))) {
		LIST_REMOVE(l, link);
		free(l->stay);
		free(l);
	}
}

/* Its answer is over; what comes next on the conn is for an exchange again. */
static void finish(struct listening *l, enum metric_outcome outcome)
{
	struct worker *w = worker_of(l);
	struct conn *c = l->conn;
	uint64_t now = clock_microseconds();

	streams_release(w->streams, &l->session);
	METRIC_SUB(w->metrics, STREAMS_OPEN, 1, l->route->metrics_id);
	access_note(c, &(struct access){.route = l->route,
			   .class = METRIC_METHOD_STREAM,
			   .outcome = outcome,
			   .status = 200,
			   .session = &l->session,
			   .method = "",
			   .name = "",
			   .trace = l->trace,
			   .ended = now,
			   .upstream = now - l->started});
	c->handler = &exchange_handler;
	c->exchange = NULL;
	listening_close(l);
}

/* All that is given are whole events. */
static void end_stream(struct listening *l)
{
	struct conn *c = l->conn;
	char retry[RELAY_RETRY_TEXT];

	conn_body(c, relay_retry(retry));
	conn_body(c, SPAN("\n"));
	conn_end(c);
	if (c->listening == l)
		finish(l, METRIC_OUTCOME_OK);
}

static void on_stay_over(struct conn *c)
{
	c->close_after = true;
	end_stream(c->listening);
}

static void drain(struct listening *l)
{
	if (!l->begun || l->conn->listener->inner)
		return;
	if (stay_begin(&l->stay, l->conn, on_stay_over))
		LOG_TEXT(worker_of(l)->log, LOG_LEVEL_WARN, "a stream will be cut: out of memory");
}

void listenings_drain(struct worker *w)
{
	struct listening *l;

	LIST_FOREACH (l, &w->listenings, link)
		drain(l);
}

/* --- what it is to hear --- */

static void look_after(struct listening *l, bool soon)
{
	timeout_disarm(look_queue(l), &l->look);
	l->look_soon = soon;
	timeout_arm(look_queue(l), &l->look);
}

static void hear(struct listening *l, const struct session_record *record)
{
	if (source_hear(&l->hearer, l->route->upstream, record->state))
		look_after(l, false);
}

static void on_record(struct session_call *call, int status, const struct session_record *record)
{
	struct listening *l = container_of(call, struct listening, lookup);

	if (status == 0)
		hear(l, record);
	else if (status == -ENOENT) /* it ended */
		end_stream(l);
	else
		look_after(l, false);
}

static void look(struct listening *l)
{
	struct sessions *sessions = worker_of(l)->sessions;
	int error = 0;

	session_call_cancel(sessions, &l->lookup);
	l->lookup.done = on_record;
	const struct session_record *record =
	    sessions_get(sessions, &l->session, &l->lookup, &error);
	if (record)
		hear(l, record);
	else if (error)
		look_after(l, false);
}

static void on_look(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	look(container_of(timeout, struct listening, look));
}

void listen_changed(struct worker *w, const struct session_id *session)
{
	struct mailbox *box = mailbox_find(w, box_purpose, session);
	struct listening *l = box ? container_of(box, struct listening, box) : NULL;

	if (l && l->begun)
		look_after(l, true);
}

/* --- what it hears --- */

void listen_hears(struct hearer *h, struct span events)
{
	struct listening *l = container_of(h, struct listening, hearer);
	struct conn *c = l->conn;

	timeout_arm(&worker_of(l)->timeouts.listen_heartbeat, &l->heartbeat);
	conn_body(c, events);
	conn_flush(c);
	/* One that does not read is not waited for: others would have to wait, too. */
	if (c->listening == l && conn_congested(c))
		conn_break(c);
}

/* Perhaps with the session, which others may have ended. */
void listen_lost(struct hearer *h)
{
	struct listening *l = container_of(h, struct listening, hearer);

	if (!timeout_armed(&l->look))
		look_after(l, false);
}

/* --- the client's stream --- */

static void on_heartbeat(struct timeout_queue *queue, struct timeout *timeout)
{
	struct listening *l = container_of(timeout, struct listening, heartbeat);
	struct conn *c = l->conn;

	timeout_arm(queue, timeout);
	/* A reader who is behind needs none. */
	if (buffer_length(&c->out) > 0)
		return;
	conn_body(c, SPAN(":\n\n"));
	conn_flush(c);
}

static void on_touch(struct timeout_queue *queue, struct timeout *timeout)
{
	struct listening *l = container_of(timeout, struct listening, touch);

	sessions_touch(worker_of(l)->sessions, &l->session);
	timeout_arm(queue, timeout);
}

static void begin(struct listening *l)
{
	struct worker *w = worker_of(l);
	struct conn *c = l->conn;

	exchange_hand_over(c->exchange);
	c->handler = &listen_handler;
	c->listening = l;
	l->begun = true;
	l->started = clock_microseconds();
	METRIC_ADD(w->metrics, STREAMS_OPEN, 1, l->route->metrics_id);
	timeout_arm(&w->timeouts.listen_touch, &l->touch);
	timeout_arm(&w->timeouts.listen_heartbeat, &l->heartbeat);
	if (w->draining)
		drain(l);
	conn_begin(c, 200, CONN_LENGTH_UNKNOWN, relay_event_headers, (struct span){0});
	conn_flush(c);
	if (c->listening == l)
		look(l);
}

static void on_opened(struct mailbox *box, int status)
{
	struct listening *l = container_of(box, struct listening, box);

	if (status == 0)
		begin(l);
	else
		exchange_refuse(l->conn->exchange,
		    status == -EPROTO ? REPLY_SECOND_STREAM : REPLY_BROKER_AWAY, NULL,
		    (struct span){0});
}

static void on_mail(
    struct mailbox *box, enum mail_kind kind, struct span payload, struct mapping *memory)
{
	(void)box;
	(void)kind;
	(void)payload;
	(void)memory;
}

void listen_start(struct exchange *x)
{
	struct worker *w = x->worker;
	size_t trace = strlen(x->trace) + 1;
	struct listening *l = calloc(1, offsetof(struct listening, trace) + trace);

	if (!l) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	l->conn = x->conn;
	l->route = x->route;
	l->session = x->session;
	l->box.opened = on_opened;
	l->box.mail = on_mail;
	memcpy(l->trace, x->trace, trace);
	LIST_INSERT_HEAD(&w->listenings, l, link);
	x->listening = l;
	/* As long as the session's, so that nobody can guess it. */
	int error = mailbox_open_as(w, &l->box, box_purpose, &x->session);
	if (error)
		exchange_refuse(x, error == -EEXIST ? REPLY_SECOND_STREAM : REPLY_BROKER_AWAY, NULL,
		    (struct span){0});
}

void listen_timeouts_init(struct worker *w)
{
	struct worker_timeouts *t = &w->timeouts;

	timeout_queue_init(&t->listen_again, w->loop, again_after, on_look);
	timeout_queue_init(&t->listen_soon, w->loop, soon_after, on_look);
	/* As those of all streams. */
	timeout_queue_init(&t->listen_heartbeat, w->loop, t->sse_heartbeat.after, on_heartbeat);
	timeout_queue_init(&t->listen_touch, w->loop, t->session_touch.after, on_touch);
}

/* --- as its conn sees it --- */

static void handle_drained(struct conn *c)
{
	(void)c; /* nobody was stopped for it */
}

static void handle_aborted(struct conn *c)
{
	finish(c->listening, METRIC_OUTCOME_ABORTED);
}

/* A client that says no more does not listen any more either. */
static bool handle_half_closed(const struct conn *c)
{
	(void)c;
	return false;
}

/* No request is read while one is answered. */
static const struct conn_handler listen_handler = {
    .drained = handle_drained,
    .aborted = handle_aborted,
    .half_closed = handle_half_closed,
};
