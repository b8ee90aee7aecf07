/*
 * relay: a request built anew for the upstream, its answer streamed back as it comes.
 *
 * Bodies travel untouched in both directions; heads never do. SSE is not buffered: what the
 * upstream sent in one read is written in one write, and a client that does not read pauses the
 * upstream.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/http/status.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/cache.h"
#include "worker/mcp/errand.h"
#include "worker/mcp/giving.h"
#include "worker/mcp/http_sse.h"
#include "worker/mcp/inlet.h"
#include "worker/mcp/listen.h"
#include "worker/mcp/modern.h"
#include "worker/mcp/up.h"
#include "common/decimal.h"
#include "common/raw.h"
#include "worker/mcp/virtual.h"
#include "worker/route.h"

#define TYPE_JSON "Content-Type: application/json\r\n"
#define TYPE_EVENTS                                                                    \
	"Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n" \
	"X-Accel-Buffering: no\r\n"

enum {
	RELAY_HEAD_MAX = 128 * 1024,
	RELAY_RETRY_MIN = 1000,
	RELAY_RETRY_SPREAD = 2000,
	RELAY_COPY_MAX = 64 * 1024
};

const struct span relay_event_headers = {TYPE_EVENTS, sizeof(TYPE_EVENTS) - 1};

static struct exchange *exchange_of(struct upstream_call *call)
{
	return container_of(call, struct exchange, call);
}

int relay_build_head(struct buffer *out, const char *method, const struct upstream *u,
    const struct session_record *record, struct span version, struct span forward,
    const struct span *body)
{
	if (u->config->kind != CONFIG_HTTP)
		return 0;
	static const struct span line_end = {"\r\n", 2};
	bool get = strcmp(method, "GET") == 0;
	char length[DECIMAL_TEXT];
	int error = BUFFER_ADD(out, RELAY_HEAD_MAX, span_of(method), SPAN(" "),
	    span_of(u->config->target), SPAN(" HTTP/1.1\r\nHost: "), span_of(u->config->authority),
	    SPAN("\r\nUser-Agent: margay/" MARGAY_VERSION "\r\nAccept: "),
	    get ? SPAN("text/event-stream\r\n") : SPAN("application/json, text/event-stream\r\n"));

	if (!error && record && record->upstream_session[0])
		error = BUFFER_ADD(out, RELAY_HEAD_MAX, SPAN("Mcp-Session-Id: "),
		    span_of(record->upstream_session), line_end);
	if (record && version.n == 0 && mcp_versions[record->version].version_header)
		version = mcp_versions[record->version].date;
	if (!error && record && version.n > 0)
		error = BUFFER_ADD(
		    out, RELAY_HEAD_MAX, SPAN("MCP-Protocol-Version: "), version, line_end);
	if (!error && body)
		error = BUFFER_ADD(out, RELAY_HEAD_MAX,
		    SPAN("Content-Type: application/json\r\nContent-Length: "),
		    decimal(length, body->n), line_end);
	return error ? error
		     : BUFFER_ADD(
			   out, RELAY_HEAD_MAX, forward, span_of(u->config->headers), line_end);
}

static void on_ended(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);
	struct conn *c = x->conn;

	(void)status; /* that nobody has heard of it yet is none of the client's business */
	(void)record;
	x->status = 200;
	conn_answer(c, 200, (struct span){0}, (struct span){0});
	if (c->exchange == x)
		exchange_finish(x);
}

/* The client ends its session: the upstream's behind its back. It is answered when no other worker
 * would take what it asks next for a request of that session. */
static void end_session(struct exchange *x, const struct session_record *record)
{
	aside_end_session(x->worker, record);
	x->lookup.done = on_ended;
	int error = sessions_end(x->worker->sessions, &x->session, METRIC_END_CLIENT, &x->lookup);
	listen_changed(x->worker, &x->session); /* only others hear of it from the broker */
	if (error)
		on_ended(&x->lookup, error, NULL);
}

static enum upstream_action action_of(const struct exchange *x, const struct session_record *record)
{
	if (x->modern)
		return UPSTREAM_ASK;
	if (!record)
		return UPSTREAM_OPEN;
	return x->kind == EXCHANGE_POST ? UPSTREAM_POST : UPSTREAM_LISTEN;
}

void relay_start(struct exchange *x, const struct session_record *record)
{
	struct worker *w = x->worker;
	struct span body = buffer_span(&x->body);
	bool post = x->kind == EXCHANGE_POST;

	if (x->kind == EXCHANGE_DELETE) {
		end_session(x, record);
		return;
	}
	if (record && virtual_session(record)) {
		up_start(x, record);
		return;
	}
	x->upstream_session = record && record->upstream_session[0];
	x->call.upstream = x->route->upstream;
	x->call.ops = record || x->modern ? &relay_ops : &handshake_ops;
	x->call.body = post ? body : (struct span){0};
	x->call.stream = x->kind == EXCHANGE_STREAM || (x->modern && x->method->stream);
	x->call.repeatable = !post || (x->is_request && x->method->repeatable);
	x->call.action = action_of(x, record);
	x->call.status_of = x->modern ? modern_status : NULL;
	x->call.session = x->session;
	x->call.child_name = record ? record->upstream_session : "";
	x->call.single = x->is_request;
	if (relay_build_head(&x->call.head, post ? "POST" : "GET", x->route->upstream, record,
		span_of(x->version), buffer_span(&x->forward), post ? &body : NULL)) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	if (record)
		timeout_arm(&w->timeouts.session_touch, &x->touch);
	x->upstream_started = clock_microseconds();
	upstream_call_start(&x->call);
}

void relay_begin(struct exchange *x, unsigned status, int64_t length, bool sse, struct span more)
{
	struct worker *w = x->worker;
	/* Caches and proxies in front of us must neither keep nor hold back a stream. */
	static const struct span types[] = {
	    [false] = {TYPE_JSON, sizeof(TYPE_JSON) - 1},
	    [true] = {TYPE_EVENTS, sizeof(TYPE_EVENTS) - 1},
	};

	x->status = status;
	x->answering = true;
	x->streaming = sse;
	if (sse) {
		METRIC_ADD(w->metrics, STREAMS_OPEN, 1, x->route->metrics_id);
		timeout_arm(&w->timeouts.sse_heartbeat, &x->heartbeat);
		if (w->draining)
			exchange_drain(x);
		if (exchange_is_endless(x))
			exchange_keep_id(x);
	}
	conn_begin(x->conn, status, length, types[sse], more);
}

/* The upstream forgot the session, so ours ends: the client is told to start anew (2025-03-26,
 * transports). */
static void upstream_forgot(struct exchange *x)
{
	LOG(x->worker->log, LOG_LEVEL_INFO, "upstream forgot its session",
	    LOG_STR("upstream", x->route->upstream->config->name));
	sessions_end(x->worker->sessions, &x->session, METRIC_END_UPSTREAM, NULL);
	exchange_refuse(x, REPLY_UNKNOWN_SESSION, "the upstream has ended it", (struct span){0});
}

static void refuse_status(struct exchange *x, unsigned status)
{
	struct upstream *u = x->route->upstream;
	char detail[80];

	METRIC_ADD(x->worker->metrics, UPSTREAM_ERRORS, 1, u->metrics_id, METRIC_REASON_STATUS);
	snprintf(detail, sizeof(detail), "it answered with status %u%s", status,
	    status == 401 || status == 403 ? " (it wants credentials that Margay does not have)"
					   : "");
	exchange_upstream_failed(x, METRIC_REASON_STATUS, detail);
}

static bool is_type(const struct http_head *head, struct span type)
{
	const struct http_header *h = head_find(head, HTTP_CONTENT_TYPE);

	return h && header_has_token(h->value, type);
}

/* An error that the upstream explains itself: its status and JSON body go through. In the stateless
 * era 404 says that there is no such method, before it that there is no such session. */
static bool may_pass_error(const struct exchange *x, unsigned status)
{
	return status >= 400 && status < 600 && status != 401 && status != 403 && status != 407 &&
	       (status != 404 || x->modern);
}

/* No modern server refuses a modern request without saying why: it may be one no longer. */
static bool denies_its_era(const struct exchange *x, unsigned status, bool json)
{
	return x->modern && !json && (status == 400 || status == 404 || status == 405);
}

static void begin_json(struct exchange *x, const struct http_head *head)
{
	const struct http_header *retry = head_find(head, HTTP_RETRY_AFTER);
	char more[80] = "";
	int n = 0;

	if (retry && retry->value.n < 32)
		n = snprintf(more, sizeof(more), "Retry-After: %.*s\r\n", (int)retry->value.n,
		    retry->value.p);
	x->expected = head->has_length ? head->content_length : 0;
	if (head->status >= 400)
		x->outcome = METRIC_OUTCOME_RPC_ERROR;
	relay_begin(x, head->status,
	    head->has_length ? (int64_t)head->content_length : CONN_LENGTH_UNKNOWN, false,
	    (struct span){more, (size_t)n});
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct exchange *x = exchange_of(call);
	bool json = is_type(head, SPAN("application/json"));

	if (denies_its_era(x, head->status, json))
		era_forget(x->route->upstream);
	if (head->status == 404 && x->upstream_session)
		upstream_forgot(x);
	else if (head->status == 405 && x->kind == EXCHANGE_STREAM)
		exchange_refuse(x, REPLY_NO_STREAM, NULL, (struct span){0});
	else if (head->status == 200 && is_type(head, SPAN("text/event-stream")))
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	else if (json && (may_pass_error(x, head->status) ||
			     (head->status == 200 && x->kind == EXCHANGE_POST)))
		begin_json(x, head);
	else if (head->status == 202 || head->status == 204)
		x->status = 202;
	else
		refuse_status(x, head->status);
}

/* So that log and metrics can tell a JSON-RPC error from a result; and for the cache. */
static void note_message(struct exchange *x, struct span message)
{
	static const char *const kinds[] = {"result", "error", "method", NULL};
	struct envelope *e = &x->worker->envelope;
	struct envelope_fault fault;

	/* A result is the longest, and nobody else wants to know what is in it. */
	if (buffer_length(&x->cache_key) == 0 && raw_first(message, kinds) == 0)
		return;
	if (envelope_scan(message, x->worker->config->limits.json_depth, e, &fault))
		return;
	if (e->kind == ENVELOPE_ERROR)
		x->outcome = METRIC_OUTCOME_RPC_ERROR;
	else if (e->kind == ENVELOPE_RESULT && buffer_length(&x->cache_key) > 0)
		cache_put(x->worker->cache, x->route->upstream, x->method,
		    buffer_span(&x->cache_key), e->result);
	else if (e->kind == ENVELOPE_NOTIFICATION && x->modern)
		cache_hear(x->worker->cache, x->route->upstream, e);
}

/* Looks only at what came in one piece, as short answers do. */
static void note_outcome(struct exchange *x, struct span piece)
{
	if (x->outcome != METRIC_OUTCOME_OK || !x->is_request)
		return;
	if (!x->streaming) {
		if (!x->noted && (x->expected == 0 || piece.n == x->expected))
			note_message(x, piece);
		x->noted = true;
		return;
	}
	const char *end;
	for (const char *line = piece.p; (end = memchr(line, '\n', piece.n)); line = end + 1) {
		size_t n = (size_t)(end - line);
		piece.n -= n + 1;
		if (n > 5 && memcmp(line, "data:", 5) == 0)
			note_message(x, (struct span){line + 5, n - 5});
	}
}

void relay_piece(struct exchange *x, struct span piece)
{
	if (!x->answering)
		return;
	if (x->streaming) {
		sse_feed(&x->sse, piece.p, piece.n);
		timeout_arm(&x->worker->timeouts.sse_heartbeat, &x->heartbeat);
	}
	note_outcome(x, piece);
	conn_body(x->conn, piece);
}

/* It need not be changed, and is too long to be copied. */
static bool is_given_as_it_is(struct span message)
{
	return message.n > RELAY_COPY_MAX && !memchr(message.p, '\n', message.n) &&
	       !memchr(message.p, '\r', message.n);
}

static void give_whole(struct exchange *x, struct span start, struct span message)
{
	struct conn *c = x->conn;
	const struct span pieces[] = {start, message, SPAN("\n\n")};

	for (int i = 0; i < 3 && c->exchange == x; i++)
		relay_piece(x, pieces[i]);
	if (c->exchange == x)
		conn_flush(c);
}

void relay_event(struct exchange *x, struct span message)
{
	static const struct span start = {"event: message\ndata: ", 21};
	struct conn *c = x->conn;
	struct buffer event = {0};
	size_t bound = message.n + 64;

	if (is_given_as_it_is(message)) {
		give_whole(x, start, message);
		return;
	}
	int error = buffer_append(&event, start.p, start.n, bound);
	if (!error)
		error = buffer_append(&event, message.p, message.n, bound);
	if (!error)
		sse_join_lines(event.data + event.head + start.n, message.n);
	if (!error)
		error = buffer_append(&event, "\n\n", 2, bound);
	if (!error)
		relay_piece(x, buffer_span(&event));
	else
		conn_break(c);
	if (c->exchange == x)
		conn_flush(c);
	buffer_release(&event);
}

void relay_answer(struct exchange *x, unsigned status, struct span message, struct span more)
{
	struct conn *c = x->conn;

	x->expected = message.n;
	relay_begin(x, status, (int64_t)message.n, false, more);
	if (c->exchange == x)
		relay_piece(x, message);
	if (c->exchange == x)
		relay_over(x, UPSTREAM_OK, "");
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	relay_piece(exchange_of(call), (struct span){p, n});
}

static void on_read_end(struct upstream_call *call)
{
	struct exchange *x = exchange_of(call);
	struct conn *c = x->conn;

	if (!x->answering)
		return;
	conn_flush(c);
	if (c->closed)
		return;
	if (conn_congested(c))
		upstream_call_pause(call);
	if (x->leaving)
		relay_end_stream(x);
}

void relay_drained(struct exchange *x)
{
	if (x->http_sse) {
		http_sse_drained(x);
		return;
	}
	if (x->batch) {
		inlet_resume(x->batch);
		return;
	}
	if (x->giving) {
		giving_go_on(x);
		return;
	}
	upstream_call_resume(x->errand ? &x->errand->call : &x->call);
}

struct span relay_retry(char text[RELAY_RETRY_TEXT])
{
	unsigned wait = RELAY_RETRY_MIN + (unsigned)(rand() % RELAY_RETRY_SPREAD);
	int n = snprintf(text, RELAY_RETRY_TEXT, "retry: %u\n", wait);

	return (struct span){text, (size_t)n};
}

void relay_end_stream(struct exchange *x)
{
	struct conn *c = x->conn;
	char retry[RELAY_RETRY_TEXT];

	if (!sse_at_boundary(&x->sse))
		return;
	conn_body(c, relay_retry(retry));
	conn_body(c, SPAN("\n"));
	conn_end(c);
	if (c->exchange == x)
		exchange_finish(x);
}

/* The stream of a request broke before its response came: say so in its place (mcp-wire 3.6). */
static bool end_with_error(struct exchange *x, const char *detail)
{
	struct buffer event = {0};
	char message[320];

	if (!x->streaming || !x->is_request || !sse_at_boundary(&x->sse))
		return false;
	snprintf(message, sizeof(message), "Upstream failed: %s: %s",
	    x->route->upstream->config->name, detail);
	int error = buffer_append(&event, "event: message\ndata: ", 21, RELAY_HEAD_MAX);
	if (!error)
		error = status_error_body(&event, x->id, -32603, message, (struct span){0});
	if (!error)
		error = buffer_append(&event, "\n\n", 2, RELAY_HEAD_MAX);
	if (!error) {
		conn_body(x->conn, buffer_span(&event));
		conn_end(x->conn);
	}
	buffer_release(&event);
	return !error;
}

void relay_over(struct exchange *x, int reason, const char *detail)
{
	struct conn *c = x->conn;

	if (reason == UPSTREAM_OK) {
		conn_end(c);
	} else {
		x->outcome = reason == METRIC_REASON_TIMEOUT ? METRIC_OUTCOME_TIMEOUT
							     : METRIC_OUTCOME_UPSTREAM_ERROR;
		LOG(x->worker->log, LOG_LEVEL_WARN, "upstream failed in the middle of an answer",
		    LOG_STR("upstream", x->route->upstream->config->name),
		    LOG_STR("reason", detail), LOG_STR("method", x->method_name));
		if (x->kind == EXCHANGE_STREAM && sse_at_boundary(&x->sse))
			conn_end(c);
		else if (!end_with_error(x, detail))
			conn_break(c);
	}
	if (c->exchange == x)
		exchange_finish(x);
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct exchange *x = exchange_of(call);

	if (x->answering) {
		relay_over(x, reason, detail);
	} else if (reason != UPSTREAM_OK) {
		exchange_upstream_failed(x, reason, detail);
	} else { /* 202 or 204 */
		exchange_accept(x);
	}
}

const struct upstream_call_ops relay_ops = {
    .head = on_head,
    .body = on_body,
    .read_end = on_read_end,
    .end = on_end,
};
