/* exchange: see exchange.h. */
#include "worker/mcp/exchange.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/http/status.h"
#include "worker/mcp/access.h"
#include "worker/mcp/batch.h"
#include "worker/mcp/errand.h"
#include "worker/mcp/feed.h"
#include "worker/mcp/giving.h"
#include "worker/mcp/http_sse.h"
#include "worker/mcp/lease.h"
#include "worker/mcp/listen.h"
#include "worker/mcp/resume.h"
#include "worker/mcp/scanning.h"
#include "worker/mcp/streams.h"
#include "worker/route.h"
#include "worker/stay.h"

enum {
#ifdef __SANITIZE_ADDRESS__
	SPARES_MAX = 0, /* each is freed, so that a late use of it is seen */
#else
	SPARES_MAX = 64, /* exchanges that are kept for the next requests */
#endif
	SPARE_BUFFER_MAX = 2048, /* bytes of each buffer of such a one */
};

/* What an exchange has on the heap until it is freed. */
static const size_t buffers[] = {offsetof(struct exchange, forward),
    offsetof(struct exchange, fields), offsetof(struct exchange, cache_key),
    offsetof(struct exchange, body), offsetof(struct exchange, call.head)};

static struct buffer *buffer_of(struct exchange *x, size_t i)
{
	return (struct buffer *)(void *)((char *)x + buffers[i]);
}

static const struct {
	unsigned status;
	int code;
	enum metric_outcome outcome;
	const char *headers;
	const char *message;
} replies[] = {
#define REPLY(id, status, code, outcome, headers, message) \
	[REPLY_##id] = {status, code, METRIC_OUTCOME_##outcome, headers, message},
#include "worker/mcp/replies.def"
#undef REPLY
};

static void note_access(const struct exchange *x, uint64_t now)
{
	access_note(x->conn, &(struct access){.route = x->route,
				 .class = x->class,
				 .outcome = x->outcome,
				 .status = x->status,
				 .session = x->has_session ? &x->session : NULL,
				 .method = x->method_name,
				 .name = x->name,
				 .trace = x->trace,
				 .id = x->id,
				 .ended = now,
				 .upstream = x->upstream_micros});
}

void exchange_finish(struct exchange *x)
{
	struct worker *w = x->worker;
	struct conn *c = x->conn;
	uint64_t now = clock_microseconds();

	if (x->upstream_started > 0 && x->upstream_micros == 0)
		x->upstream_micros = now - x->upstream_started;
	upstream_call_cancel(&x->call);
	session_call_cancel(w->sessions, &x->lookup);
	era_cancel(&x->era);
	catalogue_cancel(&x->catalogue);
	liaison_cancel(&x->liaison);
	if (x->lease)
		lease_give_back(w, x->lease, true);
	if (x->errand)
		errand_leave(x->errand);
	if (x->subscriber)
		feed_leave(x);
	if (x->listening)
		listen_leave(x);
	if (x->scanning)
		scanning_stop(x->scanning);
	if (x->resume)
		resume_leave(x);
	if (x->giving)
		giving_stop(x);
	if (x->http_sse)
		http_sse_leave(x);
	if (x->batch)
		batch_leave(x);
	timeout_disarm(&w->timeouts.sse_heartbeat, &x->heartbeat);
	timeout_disarm(&w->timeouts.session_touch, &x->touch);
	if (x->stay)
		stay_stop(x->stay);
	if (x->counted_stream)
		streams_release(w->streams, &x->session);
	if (x->streaming && x->answering)
		METRIC_SUB(w->metrics, STREAMS_OPEN, 1, x->route->metrics_id);
	if (!x->handed_over)
		note_access(x, now);
	c->exchange = NULL;
	TAILQ_REMOVE(&w->exchanges, x, link);
	TAILQ_INSERT_TAIL(&w->closed_exchanges, x, link);
}

void exchange_hand_over(struct exchange *x)
{
	x->listening = NULL;
	x->counted_stream = false;
	x->handed_over = true;
	exchange_finish(x);
}

static void exchange_release(struct exchange *x)
{
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		buffer_release(buffer_of(x, i));
	free(x);
}

/* One that was used before, with what its buffers have grown to, or a new one. */
static struct exchange *exchange_create(struct worker *w)
{
	struct exchange *x = TAILQ_FIRST(&w->spare_exchanges);

	if (!x)
		return calloc(1, sizeof(*x));
	TAILQ_REMOVE(&w->spare_exchanges, x, link);
	w->spare_count--;
	return x;
}

void exchange_free(struct exchange *x)
{
	struct worker *w = x->worker;
	struct buffer kept[sizeof(buffers) / sizeof(buffers[0])];

	handshake_free(x);
	scanning_free(x->scanning);
	resume_free(x);
	giving_free(x);
	http_sse_free(x);
	feed_free(x);
	free(x->stay);
	if (w->spare_count == SPARES_MAX) {
		exchange_release(x);
		return;
	}
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
		struct buffer *b = buffer_of(x, i);
		if (b->capacity > SPARE_BUFFER_MAX)
			buffer_release(b);
		buffer_consume(b, buffer_length(b));
		kept[i] = *b;
	}
	*x = (struct exchange){0};
	for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
		*buffer_of(x, i) = kept[i];
	TAILQ_INSERT_HEAD(&w->spare_exchanges, x, link);
	w->spare_count++;
}

void exchanges_close(struct worker *w)
{
	struct exchange *x;

	while ((x = TAILQ_FIRST(&w->spare_exchanges))) {
		TAILQ_REMOVE(&w->spare_exchanges, x, link);
		exchange_release(x);
	}
}

void exchange_refuse(struct exchange *x, enum reply_id reply, const char *detail, struct span data)
{
	struct conn *c = x->conn;
	struct buffer body = {0};
	char message[512];

	x->status = replies[reply].status;
	x->outcome = replies[reply].outcome;
	snprintf(message, sizeof(message), "%s%s%s", replies[reply].message, detail ? ": " : "",
	    detail ? detail : "");
	int error = status_error_body(&body, x->id, replies[reply].code, message, data);
	if (!error) {
		char headers[160];
		int n = snprintf(headers, sizeof(headers), "Content-Type: application/json\r\n%s",
		    replies[reply].headers);
		conn_answer(c, x->status, (struct span){headers, (size_t)n}, buffer_span(&body));
	}
	buffer_release(&body);
	/* Closing a conn under way aborts its exchange, so it may be over already. */
	if (c->exchange == x)
		exchange_finish(x);
	if (error)
		conn_close(c);
}

const struct envelope *exchange_message(struct exchange *x)
{
	struct worker *w = x->worker;
	struct envelope_fault fault;

	if (x->scanning)
		return scanning_found(x->scanning);
	return envelope_scan(
		   buffer_span(&x->body), w->config->limits.json_depth, &w->envelope, &fault)
		   ? NULL
		   : &w->envelope;
}

void exchange_accept(struct exchange *x)
{
	struct conn *c = x->conn;

	x->status = 202;
	conn_answer(c, 202, (struct span){0}, (struct span){0});
	if (c->exchange == x)
		exchange_finish(x);
}

void exchange_upstream_failed(struct exchange *x, int reason, const char *detail)
{
	static const enum reply_id by_reason[METRIC_REASON_COUNT] = {
	    [METRIC_REASON_DNS] = REPLY_UPSTREAM_FAILED,
	    [METRIC_REASON_CONNECT] = REPLY_UPSTREAM_FAILED,
	    [METRIC_REASON_TIMEOUT] = REPLY_UPSTREAM_TIMEOUT,
	    [METRIC_REASON_PROTOCOL] = REPLY_UPSTREAM_FAILED,
	    [METRIC_REASON_CLOSED] = REPLY_UPSTREAM_FAILED,
	    [METRIC_REASON_STATUS] = REPLY_UPSTREAM_FAILED,
	    [METRIC_REASON_LIMIT] = REPLY_UPSTREAM_BUSY,
	};
	const char *name = x->route->upstream->config->name;
	char session[SESSION_ID_SHORT + 1] = "";
	char text[320];

	if (x->has_session)
		session_id_shorten(&x->session, session);
	LOG(x->worker->log, LOG_LEVEL_WARN, "upstream failed", LOG_STR("upstream", name),
	    LOG_STR("session", session), LOG_STR("reason", detail),
	    LOG_STR("method", x->method_name));
	snprintf(text, sizeof(text), "%s: %s", name, detail);
	exchange_refuse(x, by_reason[reason], text, (struct span){0});
}

static void on_heartbeat(struct timeout_queue *queue, struct timeout *timeout)
{
	struct exchange *x = container_of(timeout, struct exchange, heartbeat);
	struct conn *c = x->conn;

	/* A comment may stand only between two events; nor does a reader who is behind need one. */
	if (sse_at_boundary(&x->sse) && buffer_length(&c->out) == 0) {
		conn_body(c, SPAN(":\n\n"));
		conn_flush(c);
	}
	if (!c->closed)
		timeout_arm(queue, timeout);
}

static void on_touch(struct timeout_queue *queue, struct timeout *timeout)
{
	struct exchange *x = container_of(timeout, struct exchange, touch);

	sessions_touch(x->worker->sessions, &x->session);
	timeout_arm(queue, timeout);
}

void exchange_timeouts_init(struct worker *w)
{
	struct worker_timeouts *t = &w->timeouts;
	/* A session in use must never look idle, whatever the batching of touches adds. */
	double touch = w->config->sessions.idle_timeout / 4;

	timeout_queue_init(
	    &t->sse_heartbeat, w->loop, w->config->timeouts.sse_heartbeat, on_heartbeat);
	timeout_queue_init(&t->session_touch, w->loop, touch, on_touch);
}

static void on_stay_over(struct conn *c)
{
	struct exchange *x = c->exchange;

	x->leaving = true;
	c->close_after = true;
	if (x->subscriber)
		feed_drain(x);
	else
		relay_end_stream(x);
}

bool exchange_is_endless(const struct exchange *x)
{
	return x->subscriber || x->call.stream || x->kind == EXCHANGE_STREAM;
}

void exchange_keep_id(struct exchange *x)
{
	if (!upstream_call_drop_request(&x->call))
		return;
	buffer_release(&x->forward);
	buffer_release(&x->fields);
	buffer_release(&x->cache_key);
	buffer_keep(&x->body, x->id);
	x->id = buffer_span(&x->body);
}

void exchange_drain(struct exchange *x)
{
	struct worker *w = x->worker;

	if (x->http_sse) {
		http_sse_drain(x);
		return;
	}
	/* One that has not begun comes here when it does. */
	if (!exchange_is_endless(x) || !x->answering || x->leaving || x->conn->listener->inner)
		return;
	if (stay_begin(&x->stay, x->conn, on_stay_over))
		LOG_TEXT(w->log, LOG_LEVEL_WARN, "a stream will be cut: out of memory");
}

static void handle_head(struct conn *c, const struct http_head *head)
{
	struct worker *w = c->worker;
	struct exchange *x = exchange_create(w);

	if (!x) {
		conn_close(c);
		return;
	}
	x->worker = w;
	x->conn = c;
	x->outcome = METRIC_OUTCOME_OK;
	c->exchange = x;
	TAILQ_INSERT_TAIL(&w->exchanges, x, link);
	admission_head(x, head);
}

static int handle_body(struct conn *c, const char *p, size_t n)
{
	struct exchange *x = c->exchange;
	int error =
	    buffer_append_part(&x->body, p, n, x->body_length, c->worker->config->limits.body_size);

	if (!error)
		return 0;
	exchange_refuse(
	    x, error == -EMSGSIZE ? REPLY_TOO_LARGE : REPLY_NO_MEMORY, NULL, (struct span){0});
	return error;
}

static void handle_complete(struct conn *c)
{
	admission_complete(c->exchange);
}

static void handle_drained(struct conn *c)
{
	if (c->exchange)
		relay_drained(c->exchange);
}

static void handle_aborted(struct conn *c)
{
	if (!c->exchange)
		return;
	if (c->exchange->outcome == METRIC_OUTCOME_OK)
		c->exchange->outcome = METRIC_OUTCOME_ABORTED;
	exchange_finish(c->exchange);
}

/* Notifications and answers are delivered even if their sender did not wait for the 202. */
static bool handle_half_closed(const struct conn *c)
{
	const struct exchange *x = c->exchange;

	return x && x->kind == EXCHANGE_POST && !x->is_request && !x->batch_has_requests;
}

const struct conn_handler exchange_handler = {
    .head = handle_head,
    .body = handle_body,
    .complete = handle_complete,
    .drained = handle_drained,
    .aborted = handle_aborted,
    .half_closed = handle_half_closed,
};
