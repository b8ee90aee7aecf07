/*
 * handshake: the answer to `initialize`, which makes a session.
 *
 * The answer is held back (bounded) until it told which revision was negotiated and the broker
 * knows the session: only then the client learns its id, so that its next request may land on any
 * worker. The upstream's own session id stays inside. An answer that is an error makes no session
 * and is relayed as any other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/up.h"
#include "worker/route.h"
#include "worker/upstream/stdio.h"

enum { HANDSHAKE_MAX = 4 * 1024 * 1024 };

struct handshake {
	struct exchange *exchange;
	struct buffer answer;
	struct sse_data events;
	struct session_record record;
	unsigned status; /* of the upstream's answer */
	bool sse, json;
	bool decided; /* the broker is asked, or no session is to be made */
	bool settled; /* the upstream's session is ours to keep, or was ended */
	bool over;    /* the upstream's answer is complete */
};

static struct exchange *exchange_of(struct upstream_call *call)
{
	return container_of(call, struct exchange, call);
}

void handshake_free(struct exchange *x)
{
	struct handshake *h = x->handshake;

	if (!h)
		return;
	if (!h->settled)
		aside_end_session(x->worker, &h->record);
	buffer_release(&h->answer);
	sse_data_release(&h->events);
	free(h);
	x->handshake = NULL;
}

/* Give what was held back and leave the rest to the relay. */
static void answer(struct exchange *x, struct span more)
{
	struct handshake *h = x->handshake;
	struct conn *c = x->conn;
	struct span held = buffer_span(&h->answer);

	relay_begin(x, h->status, h->over ? (int64_t)held.n : CONN_LENGTH_UNKNOWN, h->sse, more);
	if (!c->closed)
		relay_piece(x, held);
	if (c->closed)
		return;
	if (h->over) {
		relay_over(x, UPSTREAM_OK, "");
		return;
	}
	conn_flush(c);
	if (c->closed)
		return;
	x->call.ops = &relay_ops;
	upstream_call_resume(&x->call);
}

static void created(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);
	char id[SESSION_ID_TEXT + 1], header[80];

	(void)record;
	if (status) {
		exchange_refuse(x, status == -ENOSPC ? REPLY_SESSIONS_FULL : REPLY_BROKER_AWAY,
		    NULL, (struct span){0});
		return;
	}
	x->handshake->settled = true;
	x->has_session = true;
	if (x->route->upstream->config->kind == CONFIG_STDIO)
		stdio_bind(x->worker->stdio, &x->handshake->record);
	session_id_format(&x->session, x->worker->boot->session_key, id);
	int n = snprintf(header, sizeof(header), "Mcp-Session-Id: %s\r\n", id);
	answer(x, (struct span){header, (size_t)n});
}

static void make_session(struct exchange *x, int version)
{
	struct handshake *h = x->handshake;
	struct worker *w = x->worker;
	struct session_record *r = &h->record;

	r->version = (uint8_t)version;
	r->idle_timeout = (uint32_t)w->config->sessions.idle_timeout;
	snprintf(r->route, sizeof(r->route), "%s", x->route->config->path);
	snprintf(r->upstream, sizeof(r->upstream), "%s", x->route->upstream->config->name);
	x->lookup.done = created;
	if (session_id_create(0, 0, &r->id) || sessions_create(w->sessions, r, &x->lookup)) {
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
		return;
	}
	x->session = r->id;
	if (!h->over)
		upstream_call_pause(&x->call);
}

/* One message of the answer. Non-zero when the exchange is decided. */
static int decide(struct exchange *x, struct span message)
{
	struct handshake *h = x->handshake;
	struct envelope *e = &x->worker->envelope;
	struct envelope_fault fault;
	char detail[96];

	if (h->decided || envelope_scan(message, x->worker->config->limits.json_depth, e, &fault))
		return h->decided;
	if (e->kind != ENVELOPE_RESULT && e->kind != ENVELOPE_ERROR)
		return 0;
	h->decided = true;
	if (e->kind == ENVELOPE_ERROR) {
		x->outcome = METRIC_OUTCOME_RPC_ERROR;
		return 1;
	}
	int version = e->protocol_version.p ? mcp_version_find(e->protocol_version) : -1;
	if (version >= 0) {
		make_session(x, version);
		return 1;
	}
	struct span named = e->protocol_version.n < 32 ? e->protocol_version : (struct span){0};
	snprintf(detail, sizeof(detail),
	    "it negotiated revision \"%.*s\", which is not spoken here", (int)named.n,
	    named.n > 0 ? named.p : "");
	exchange_upstream_failed(x, METRIC_REASON_PROTOCOL, detail);
	return 1;
}

static int on_event(struct sse_data *events, struct span data)
{
	struct handshake *h = container_of(events, struct handshake, events);
	struct exchange *x = h->exchange;
	struct conn *c = x->conn;

	/* An error is passed on by on_read_end or on_end, when all its bytes are here. */
	return decide(x, data) || c->exchange != x;
}

/* How servers say that they know no initialize (mcp-wire 2.1). */
static bool is_refusal(unsigned status)
{
	return status == 400 || status == 404 || status == 405;
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct exchange *x = exchange_of(call);
	const struct http_header *type = head_find(head, HTTP_CONTENT_TYPE);
	const struct http_header *id = head_find(head, HTTP_MCP_SESSION_ID);
	struct handshake *h;

	bool sse = type && header_has_token(type->value, SPAN("text/event-stream"));
	bool json = type && header_has_token(type->value, SPAN("application/json"));
	if (!is_refusal(head->status) && (head->status != 200 || (!sse && !json))) {
		call->ops = &relay_ops;
		relay_ops.head(call, head);
		return;
	}
	if (id && id->value.n >= SESSION_UPSTREAM_ID_MAX) {
		exchange_upstream_failed(
		    x, METRIC_REASON_PROTOCOL, "its Mcp-Session-Id is too long");
		return;
	}
	h = calloc(1, sizeof(*h));
	if (!h) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	x->handshake = h;
	h->exchange = x;
	h->status = head->status;
	h->sse = sse && head->status == 200;
	h->json = json;
	if (id)
		memcpy(h->record.upstream_session, id->value.p, id->value.n);
	/* handshake_free ends the upstream's session unless ours was made. */
	snprintf(
	    h->record.upstream, sizeof(h->record.upstream), "%s", x->route->upstream->config->name);
	h->record.version = MCP_2025_11_25;
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct exchange *x = exchange_of(call);
	struct handshake *h = x->handshake;

	if (buffer_append(&h->answer, p, n, HANDSHAKE_MAX)) {
		exchange_upstream_failed(
		    x, METRIC_REASON_PROTOCOL, "its answer to initialize is too long");
		return;
	}
	if (h->sse && !h->decided && sse_data_feed(&h->events, p, n, HANDSHAKE_MAX, on_event) < 0)
		exchange_upstream_failed(
		    x, METRIC_REASON_PROTOCOL, "its answer to initialize is no SSE");
}

/* --- an upstream that refuses --- */

/* As it is, when it said why. */
static void give_refusal(struct exchange *x)
{
	struct handshake *h = x->handshake;
	char detail[128];

	if (h->json || h->sse) {
		x->outcome = METRIC_OUTCOME_RPC_ERROR;
		answer(x, (struct span){0});
		return;
	}
	/* As servers of 2024-11-05 do, whose URL is that of a stream. */
	snprintf(detail, sizeof(detail), "it answered with status %u%s", h->status,
	    h->status == 400 ? "" : "; one of HTTP+SSE is an upstream of the kind `sse`");
	exchange_upstream_failed(x, METRIC_REASON_STATUS, detail);
}

static void with_era(struct exchange *x, enum era era)
{
	if (era != ERA_MODERN) {
		give_refusal(x);
		return;
	}
	x->route->upstream->refuses_initialize = true;
	x->outcome = METRIC_OUTCOME_OK;
	handshake_free(x);
	up_initialize(x);
}

static void on_era(struct era_wait *wait, enum era era, int reason, const char *detail)
{
	(void)reason;
	(void)detail;
	with_era(container_of(wait, struct exchange, era), era);
}

/* It may be of the stateless era, which knows no initialize. */
static void refused(struct exchange *x)
{
	struct upstream *u = x->route->upstream;
	enum era era = era_of(u);

	x->era.done = on_era;
	if (era == ERA_MODERN && !u->refuses_initialize)
		era = ERA_UNKNOWN; /* what it told of itself may be old */
	if (era != ERA_UNKNOWN)
		with_era(x, era);
	else if (!era_ask(u, &x->era))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
}

/* Decided without a session: an error. */
static bool is_error(const struct exchange *x)
{
	return x->handshake->decided && x->outcome == METRIC_OUTCOME_RPC_ERROR;
}

static void on_read_end(struct upstream_call *call)
{
	struct exchange *x = exchange_of(call);

	if (!is_error(x))
		return;
	upstream_call_cancel(call);
	x->handshake->over = true;
	refused(x);
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct exchange *x = exchange_of(call);
	struct conn *c = x->conn;
	struct handshake *h = x->handshake;

	x->upstream_micros = clock_microseconds() - x->upstream_started;
	if (!h || (reason != UPSTREAM_OK && !h->decided)) {
		exchange_upstream_failed(x, reason, detail);
		return;
	}
	h->over = true;
	if (is_refusal(h->status)) {
		refused(x);
		return;
	}
	if (!h->sse)
		decide(x, buffer_span(&h->answer));
	if (c->exchange != x)
		return;
	if (is_error(x))
		refused(x);
	else if (!h->decided)
		exchange_upstream_failed(
		    x, METRIC_REASON_PROTOCOL, "its answer to initialize is no JSON-RPC response");
}

const struct upstream_call_ops handshake_ops = {
    .head = on_head,
    .body = on_body,
    .read_end = on_read_end,
    .end = on_end,
};
