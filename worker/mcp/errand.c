/* errand: see errand.h. */
#include "worker/mcp/errand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/giving.h"
#include "worker/mcp/replay.h"
#include "worker/mcp/splicing.h"
#include "worker/route.h"

static const struct upstream_call_ops errand_ops;
static const struct reading_ops reading_ops;

static struct errand *errand_of(struct upstream_call *call)
{
	return container_of(call, struct errand, call);
}

void errand_number(struct errand *r)
{
	/* Below 2^53, so that no server loses a digit of it. */
	snprintf(r->id, sizeof(r->id), "%llu", (unsigned long long)++r->worker->last_errand);
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
	r->reading.worker = w;
	r->reading.ops = &reading_ops;
	r->reading.bound = ERRAND_MESSAGE_MAX;
	r->call.upstream = x->route->upstream;
	r->translation.id = x->id;
	r->translation.method = x->method;
	r->client = x->session;
	errand_number(r);
	LIST_INSERT_HEAD(&w->errands, r, link);
	x->errand = r;
	return r;
}

struct span errand_take_request(struct errand *r)
{
	r->taken = r->exchange->body;
	r->exchange->body = (struct buffer){0};
	r->found = r->exchange->scanning;
	r->exchange->scanning = NULL;
	return buffer_span(&r->taken);
}

static void part(struct errand *r)
{
	if (r->exchange)
		r->exchange->errand = NULL;
	r->exchange = NULL;
	r->remote = false;
}

void errand_close(struct errand *r)
{
	struct worker *w = r->worker;

	if (r->closed)
		return;
	r->closed = true;
	upstream_call_cancel(&r->call);
	if (r->exchange && r->taken.data) {
		r->exchange->body = r->taken;
		r->taken = (struct buffer){0};
	}
	reading_stop(&r->reading);
	splicing_stop(r->splicing);
	r->way->closed(r);
	part(r);
	LIST_REMOVE(r, link);
	LIST_INSERT_HEAD(&w->closed_errands, r, link);
	worker_check_done(w);
}

void errands_close(struct worker *w)
{
	while (!LIST_EMPTY(&w->errands))
		errand_close(LIST_FIRST(&w->errands));
	replays_close(w);
	errands_free_closed(w);
}

void errands_free_closed(struct worker *w)
{
	struct errand *r;

	while ((r = LIST_FIRST(&w->closed_errands))) {
		LIST_REMOVE(r, link);
		buffer_release(&r->call.head);
		buffer_release(&r->taken);
		buffer_release(&r->body);
		buffer_release(&r->outgoing);
		buffer_release(&r->kept);
		scanning_free(r->found);
		reading_release(&r->reading);
		splicing_free(r->splicing);
		free(r->record);
		free(r);
	}
}

void errand_leave(struct errand *r)
{
	bool whole = r->answered && !r->splicing;

	if (!whole && r->way->abandoned(r))
		part(r);
	else
		errand_close(r);
}

bool errand_is_heard(const struct errand *r)
{
	return r->exchange || r->remote;
}

bool errand_is_awaited(const struct errand *r)
{
	return errand_is_heard(r) || r->replay;
}

bool errands_awaited(const struct worker *w)
{
	const struct errand *r;

	LIST_FOREACH (r, &w->errands, link) {
		if (!r->exchange && errand_is_awaited(r))
			return true;
	}
	return replays_awaited(w);
}

static void on_spliced(void *owner)
{
	struct errand *r = owner;

	splicing_free(r->splicing);
	r->splicing = NULL;
	r->spliced(r);
}

int errand_splice(
    struct errand *r, struct buffer *text, const struct compose *c, void (*then)(struct errand *r))
{
	if (!c->cuts || c->cuts->count == 0) {
		then(r);
		return 0;
	}
	r->spliced = then;
	r->splicing = splicing_start(r->worker, text, c->cuts, on_spliced, r);
	return r->splicing ? 0 : -ENOMEM;
}

void errand_send(struct errand *r)
{
	const struct mcp_method *method = r->translation.method;
	struct upstream *u = r->call.upstream;
	struct buffer head = r->call.head;

	reading_reset(&r->reading);
	r->call = (struct upstream_call){.upstream = u,
	    .ops = &errand_ops,
	    .head = head,
	    .body = buffer_span(&r->body),
	    .repeatable = method->repeatable,
	    .stream = method->stream,
	    .action = r->way->action,
	    .session = r->record ? r->record->id : (struct session_id){{0}},
	    .child_name = r->record ? r->record->upstream_session : "",
	    .single = true};
	r->tries++;
	if (r->exchange)
		r->exchange->upstream_started = clock_microseconds();
	upstream_call_start(&r->call);
}

void errand_cancel(struct errand *r)
{
	char text[128];
	int n;

	if (r->call.state == CALL_OVER || r->answered)
		return;
	n = snprintf(text, sizeof(text),
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/"
	    "cancelled\",\"params\":{\"requestId\":%s,"
	    "\"reason\":\"the client went\"}}",
	    r->id);
	aside_post(r->call.upstream, r->record, (struct span){text, (size_t)n});
}

/* --- towards the client --- */

/* What goes before a message to make it an event; its end is where the status of an answer stands
 * in mail. */
static const struct span event_start = {"event: message\ndata: ", 21};

struct compose errand_compose(struct errand *r)
{
	struct compose c = {.out = &r->outgoing, .bound = 2 * ERRAND_MESSAGE_MAX};

	buffer_consume(&r->outgoing, buffer_length(&r->outgoing));
	compose_raw(&c, event_start);
	return c;
}

static struct compose_cuts *no_cuts_yet(struct worker *w)
{
	w->cuts.count = 0;
	w->cuts.bytes = 0;
	return &w->cuts;
}

struct compose errand_compose_answer(struct errand *r)
{
	struct compose c = errand_compose(r);

	if (r->reading.lasting)
		c.cuts = no_cuts_yet(r->worker);
	return c;
}

struct compose errand_compose_request(struct errand *r, size_t bound)
{
	buffer_consume(&r->body, buffer_length(&r->body));
	return (struct compose){.out = &r->body, .bound = bound, .cuts = no_cuts_yet(r->worker)};
}

struct span errand_message(const struct errand *r)
{
	struct span all = buffer_span(&r->outgoing);

	return (struct span){all.p + event_start.n, all.n - event_start.n};
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

static void mail_answer(struct errand *r, unsigned status)
{
	uint16_t number = (uint16_t)status;

	buffer_consume(&r->outgoing, event_start.n - sizeof(number));
	memcpy(r->outgoing.data + r->outgoing.head, &number, sizeof(number));
	if (sessions_mail_long(r->worker->sessions, &r->retry, MAIL_ANSWER, &r->outgoing, NULL))
		LOG(r->worker->log, LOG_LEVEL_WARN, "an answer is lost: the broker is away",
		    LOG_STR("upstream", r->call.upstream->config->name));
}

/* Make `outgoing` an event. False when memory is short: the client is let go. */
static bool end_event(struct errand *r)
{
	struct exchange *x = r->exchange;

	/* What was taken over may have been in several lines. */
	sse_join_lines(r->outgoing.data + r->outgoing.head + event_start.n,
	    buffer_length(&r->outgoing) - event_start.n);
	if (buffer_append(&r->outgoing, "\n\n", 2, 2 * ERRAND_MESSAGE_MAX + 2)) {
		conn_break(x->conn);
		return false;
	}
	struct span line = replay_line(r);
	if (line.n > 0)
		relay_piece(x, line);
	return true;
}

static void give_event(struct errand *r)
{
	struct exchange *x = r->exchange;
	struct conn *conn = x->conn;

	if (!end_event(r))
		return;
	struct span rest = buffer_span(&r->outgoing);
	/* Its outcome is looked for in what comes in one piece. */
	if (rest.n > SCANNING_SHORT) {
		relay_piece(x, event_start);
		rest = (struct span){rest.p + event_start.n, rest.n - event_start.n};
	}
	if (conn->exchange == x)
		relay_piece(x, rest);
}

void errand_notice(struct errand *r, struct compose *c)
{
	struct exchange *x = r->exchange;

	if (!errand_is_awaited(r) || !composed(r, c))
		return;
	if (r->way->resumes)
		replay_keep(r, errand_message(r), false);
	if (!errand_is_heard(r))
		return;
	if (r->remote && r->replay) {
		replay_mail(r);
		return;
	}
	if (r->remote) {
		buffer_consume(&r->outgoing, event_start.n);
		if (sessions_mail_long(
			r->worker->sessions, &r->retry, MAIL_MESSAGE, &r->outgoing, NULL))
			errand_close(r);
		return;
	}
	struct conn *conn = x->conn;
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
	if (c->cuts && c->cuts->count > 0 && errand_splice(r, &r->outgoing, c, errand_deliver))
		errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
}

/* Too long to be given at once: the exchange has it from now on. */
static void give_long(struct errand *r)
{
	struct exchange *x = r->exchange;
	struct conn *conn = x->conn;

	if (!x->answering) {
		buffer_consume(&r->outgoing, event_start.n);
		x->expected = buffer_length(&r->outgoing);
		relay_begin(x, r->answer_status, (int64_t)x->expected, false, (struct span){0});
	} else if (!end_event(r)) {
		return;
	}
	if (conn->exchange == x && giving_start(x, &r->outgoing))
		conn_break(conn);
}

/* Give the answer in `outgoing`, which ends the exchange. */
static void end_exchange(struct errand *r)
{
	struct exchange *x = r->exchange;
	struct conn *conn = x->conn;
	struct span message = errand_message(r);

	x->upstream_micros = clock_microseconds() - x->upstream_started;
	if (message.n > GIVING_SHORT) {
		give_long(r);
		return;
	}
	if (!x->answering) {
		relay_answer(x, r->answer_status, message, (struct span){0});
		return;
	}
	give_event(r);
	if (conn->exchange == x)
		relay_over(x, UPSTREAM_OK, "");
}

/* The answer goes out when the upstream has said all, or nothing more for now: so its connection is
 * mostly free again. */
void errand_deliver(struct errand *r)
{
	if (r->delivered || r->splicing)
		return;
	r->delivered = true;
	if (r->replay)
		replay_keep(r, errand_message(r), true);
	if (r->exchange)
		end_exchange(r);
	else if (r->remote && r->replay)
		replay_mail(r);
	else if (r->remote)
		mail_answer(r, r->answer_status);
	errand_close(r);
}

void errand_interrupt(struct errand *r, struct compose *c)
{
	struct exchange *x = r->exchange;
	bool remote = r->remote;

	if (!composed(r, c))
		return;
	r->answer_status = 200;
	if (remote) {
		part(r);
		mail_answer(r, 200);
		return;
	}
	/* The exchange ends without taking the errand along. */
	x->errand = NULL;
	end_exchange(r);
	r->exchange = NULL;
	upstream_call_resume(&r->call);
}

/* As an answer, for whoever waits elsewhere or comes back. */
static void answer_failure(struct errand *r, const char *detail)
{
	struct compose c = errand_compose(r);
	char text[320];
	int n = snprintf(
	    text, sizeof(text), "Upstream failed: %s: %s", r->call.upstream->config->name, detail);

	translate_error(
	    &c, r->translation.id, -32603, (struct span){text, (size_t)n}, (struct span){0});
	r->answer_status = 502;
	if (!c.error)
		errand_deliver(r);
	else
		errand_close(r);
}

void errand_fail(struct errand *r, int reason, const char *detail)
{
	struct exchange *x = r->exchange;

	r->answered = true;
	splicing_free(r->splicing);
	r->splicing = NULL;
	if (x && x->answering) {
		relay_over(x, reason, detail);
	} else if (x) {
		exchange_upstream_failed(x, reason, detail);
	} else {
		answer_failure(r, detail);
	}
}

/* --- from the upstream --- */

static struct errand *reader_of(struct reading *reading)
{
	return container_of(reading, struct errand, reading);
}

/* What is no message is left out, as a client would. */
static bool on_message(
    struct reading *reading, struct span text, int error, const struct envelope *e)
{
	struct errand *r = reader_of(reading);

	(void)text;
	if (!error && !r->closed && !r->answered)
		r->way->message(r, e);
	return r->closed || r->answered;
}

void errand_take(struct errand *r, struct span message)
{
	struct worker *w = r->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	if (!r->answered)
		on_message(&r->reading, message,
		    envelope_scan(message, w->config->limits.json_depth, e, &fault), e);
}

void errand_take_long(struct errand *r, struct buffer *message)
{
	buffer_release(&r->reading.text);
	r->reading.text = *message;
	*message = (struct buffer){0};
	if (reading_scan(&r->reading))
		errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
}

static bool is_type(const struct http_head *head, struct span type)
{
	const struct http_header *h = head_find(head, HTTP_CONTENT_TYPE);

	return h && header_has_token(h->value, type);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct errand *r = errand_of(call);
	char detail[64];

	r->sse = head->status == 200 && is_type(head, SPAN("text/event-stream"));
	r->expected = head->has_length ? head->content_length : 0;
	bool json = is_type(head, SPAN("application/json"));
	if (head->status >= 400 && r->way->refused(r, head->status, json))
		return;
	if (r->sse || json)
		return;
	snprintf(detail, sizeof(detail), "it answered with status %u", head->status);
	errand_fail(r, METRIC_REASON_STATUS, detail);
}

static void feed_failed(struct errand *r)
{
	errand_fail(r, METRIC_REASON_LIMIT, "its message is too long to be translated");
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct errand *r = errand_of(call);

	if (r->answered)
		return;
	int status =
	    r->sse ? reading_feed(&r->reading, p, n)
		   : buffer_append_part(&r->reading.text, p, n, r->expected, ERRAND_MESSAGE_MAX);
	if (status < 0)
		feed_failed(r);
}

static bool is_behind(const struct errand *r)
{
	return r->reading.busy || (r->exchange && conn_congested(r->exchange->conn));
}

static void on_read_end(struct upstream_call *call)
{
	struct errand *r = errand_of(call);

	if (r->answered)
		errand_deliver(r);
	else if (is_behind(r))
		upstream_call_pause(call);
}

static void call_over(struct errand *r, int reason, const char *detail)
{
	if (r->closed)
		return;
	if (r->answered)
		errand_deliver(r);
	else if (r->way->ended(r))
		return;
	else if (reason == UPSTREAM_OK)
		errand_fail(r, METRIC_REASON_PROTOCOL, "it ended its answer without a response");
	else
		errand_fail(r, reason, detail);
}

static void on_caught_up(struct reading *reading, int error)
{
	struct errand *r = reader_of(reading);

	if (r->closed)
		return;
	if (error) {
		feed_failed(r);
		return;
	}
	if (reading->ended) {
		call_over(r, reading->reason, reading->detail);
		return;
	}
	/* A connection that may say its end while the answer is spliced can be used again. */
	if (r->answered)
		errand_deliver(r);
	if (!r->closed && !is_behind(r))
		upstream_call_resume(&r->call);
}

static const struct reading_ops reading_ops = {.message = on_message, .caught_up = on_caught_up};

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct errand *r = errand_of(call);
	struct span message = buffer_span(&r->reading.text);
	bool whole = reason == UPSTREAM_OK && !r->sse;

	if (whole && message.n > SCANNING_SHORT && reading_scan(&r->reading)) {
		errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
		return;
	}
	if (reading_end(&r->reading, reason, detail))
		return;
	if (whole)
		errand_take(r, message);
	call_over(r, reason, r->reading.detail);
}

static const struct upstream_call_ops errand_ops = {
    .head = on_head,
    .body = on_body,
    .read_end = on_read_end,
    .end = on_end,
};
