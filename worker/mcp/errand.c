/* errand: see errand.h. */
#include "worker/mcp/errand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/route.h"

static const struct upstream_call_ops errand_ops;

static struct errand *errand_of(struct upstream_call *call)
{
	return container_of(call, struct errand, call);
}

struct errand *errand_create(struct exchange *x, const struct errand_way *way)
{
	struct worker *w = x->worker;
	struct errand *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->worker = w;
	r->exchange = x;
	r->way = way;
	r->call.upstream = x->route->upstream;
	r->translation.id = x->id;
	r->translation.method = x->method;
	/* Below 2^53, so that no server loses a digit of it. */
	snprintf(r->id, sizeof(r->id), "%llu", (unsigned long long)++w->last_errand);
	LIST_INSERT_HEAD(&w->errands, r, link);
	x->errand = r;
	return r;
}

static void errand_close(struct errand *r)
{
	struct worker *w = r->worker;

	upstream_call_cancel(&r->call);
	if (r->exchange)
		r->exchange->errand = NULL;
	r->exchange = NULL;
	LIST_REMOVE(r, link);
	LIST_INSERT_HEAD(&w->closed_errands, r, link);
}

void errands_free_closed(struct worker *w)
{
	struct errand *r;

	while ((r = LIST_FIRST(&w->closed_errands))) {
		LIST_REMOVE(r, link);
		buffer_release(&r->call.head);
		buffer_release(&r->body);
		buffer_release(&r->incoming);
		buffer_release(&r->outgoing);
		buffer_release(&r->kept);
		sse_data_release(&r->events);
		free(r);
	}
}

void errand_leave(struct errand *r)
{
	if (!r->answered)
		r->way->abandoned(r);
	errand_close(r);
}

void errand_send(struct errand *r)
{
	struct exchange *x = r->exchange;
	struct buffer head = r->call.head;

	r->call = (struct upstream_call){.upstream = x->route->upstream,
	    .ops = &errand_ops,
	    .head = head,
	    .body = buffer_span(&r->body),
	    .repeatable = x->method->repeatable,
	    .stream = x->method->stream,
	    .action = UPSTREAM_POST,
	    .session = r->record.id,
	    .child_name = r->record.upstream_session,
	    .single = true};
	r->tries++;
	x->upstream_started = clock_microseconds();
	upstream_call_start(&r->call);
}

/* --- towards the client --- */

static const struct span event_start = {"event: message\ndata: ", 21};

struct compose errand_compose(struct errand *r)
{
	struct compose c = {.out = &r->outgoing, .bound = 2 * ERRAND_MESSAGE_MAX};

	buffer_consume(&r->outgoing, buffer_length(&r->outgoing));
	/* Room for what makes it an event, if it is to be one. */
	compose_raw(&c, event_start);
	return c;
}

/* False when the exchange is over, because it could not be composed. */
static bool composed(struct errand *r, const struct compose *c)
{
	if (!c->error)
		return true;
	errand_fail(r, METRIC_REASON_LIMIT,
	    c->error == -EMSGSIZE ? "its message is too long to be translated" : "out of memory");
	return false;
}

static void give_event(struct errand *r)
{
	struct exchange *x = r->exchange;

	if (buffer_append(&r->outgoing, "\n\n", 2, 2 * ERRAND_MESSAGE_MAX + 2)) {
		conn_break(x->conn);
		return;
	}
	relay_piece(x, buffer_span(&r->outgoing));
}

void errand_notice(struct errand *r, struct compose *c)
{
	struct exchange *x = r->exchange;
	struct conn *conn = x->conn;

	if (!composed(r, c))
		return;
	if (!x->answering)
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (conn->exchange == x)
		give_event(r);
	/* The message is in a buffer that the next one needs. */
	if (conn->exchange == x)
		conn_flush(conn);
}

void errand_answer(struct errand *r, struct compose *c, unsigned status)
{
	if (!composed(r, c))
		return;
	r->answered = true;
	r->answer_status = status;
}

/* The answer goes out when the upstream has said all, or nothing more for now: so its connection is
 * mostly free again. */
static void deliver(struct errand *r)
{
	struct exchange *x = r->exchange;
	struct conn *conn = x->conn;
	struct span message = buffer_span(&r->outgoing);

	x->upstream_micros = clock_microseconds() - x->upstream_started;
	if (x->answering) {
		give_event(r);
	} else {
		message = (struct span){message.p + event_start.n, message.n - event_start.n};
		x->expected = message.n;
		relay_begin(x, r->answer_status, (int64_t)message.n, false, (struct span){0});
		if (conn->exchange == x)
			relay_piece(x, message);
	}
	if (conn->exchange == x)
		relay_over(x, UPSTREAM_OK, "");
}

void errand_fail(struct errand *r, int reason, const char *detail)
{
	struct exchange *x = r->exchange;

	r->answered = true;
	if (x->answering)
		relay_over(x, reason, detail);
	else
		exchange_upstream_failed(x, reason, detail);
}

/* --- from the upstream --- */

/* One message. Non-zero when the errand is over. */
static int take(struct errand *r, struct span message)
{
	struct worker *w = r->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	if (!r->exchange || r->answered)
		return 1;
	/* What is no message is left out, as a client would. */
	if (envelope_scan(message, w->config->limits.json_depth, e, &fault))
		return 0;
	r->way->message(r, e);
	return !r->exchange || r->answered;
}

static int on_event(struct sse_data *events, struct span data)
{
	return take(container_of(events, struct errand, events), data);
}

static bool is_type(const struct http_head *head, struct span type)
{
	const struct http_header *h = head_find(head, SPAN("content-type"), NULL);

	return h && header_has_token(h->value, type);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct errand *r = errand_of(call);
	char detail[64];

	r->sse = head->status == 200 && is_type(head, SPAN("text/event-stream"));
	if (head->status == 404 && r->way->lost(r))
		return;
	if (r->sse || is_type(head, SPAN("application/json")))
		return;
	snprintf(detail, sizeof(detail), "it answered with status %u", head->status);
	errand_fail(r, METRIC_REASON_STATUS, detail);
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct errand *r = errand_of(call);
	int status = r->sse ? sse_data_feed(&r->events, p, n, ERRAND_MESSAGE_MAX, on_event)
			    : buffer_append(&r->incoming, p, n, ERRAND_MESSAGE_MAX);

	if (status < 0)
		errand_fail(r, METRIC_REASON_LIMIT, "its message is too long to be translated");
}

static void on_read_end(struct upstream_call *call)
{
	struct errand *r = errand_of(call);

	if (r->exchange && r->answered)
		deliver(r);
	else if (r->exchange && conn_congested(r->exchange->conn))
		upstream_call_pause(call);
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct errand *r = errand_of(call);
	char text[128];

	if (reason == UPSTREAM_OK && !r->sse)
		take(r, buffer_span(&r->incoming));
	if (!r->exchange)
		return;
	snprintf(text, sizeof(text), "%s", detail);
	if (r->answered)
		deliver(r);
	else if (reason == UPSTREAM_OK)
		errand_fail(r, METRIC_REASON_PROTOCOL, "it ended its answer without a response");
	else
		errand_fail(r, reason, text);
}

static const struct upstream_call_ops errand_ops = {
    .head = on_head,
    .body = on_body,
    .read_end = on_read_end,
    .end = on_end,
};
