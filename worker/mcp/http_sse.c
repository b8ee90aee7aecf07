/* http_sse: see http_sse.h. */
#include "worker/mcp/http_sse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/mcp/inlet.h"
#include "worker/policy/clients.h"
#include "worker/route.h"

static const char purpose[] = "http+sse";
static const struct span parameter = {"session=", 8};

struct http_sse {
	struct exchange *exchange;
	struct inlet *inlet;
	struct mailbox box;
	struct session_call broker;
	/* Under the token: the session inside, so that another worker can go on with it. */
	struct session_record record;
	bool recorded, draining;
};

/* --- heads --- */

/* The token in the query; n == 0: there is none. */
static struct span token_of(struct span target)
{
	const char *at = memchr(target.p, '?', target.n), *end = target.p + target.n;

	while (at && (size_t)(end - ++at) > parameter.n) {
		const char *next = memchr(at, '&', (size_t)(end - at));
		if (memcmp(at, parameter.p, parameter.n) == 0)
			return (struct span){
			    at + parameter.n, (size_t)((next ? next : end) - at) - parameter.n};
		at = next;
	}
	return (struct span){0};
}

bool http_sse_head(struct exchange *x, const struct http_head *head)
{
	const struct http_header *last = head_find(head, HTTP_LAST_EVENT_ID);
	struct span token = token_of(head->target);
	bool get = x->kind == EXCHANGE_STREAM;

	if (!x->route->config->http_sse || head_find(head, HTTP_MCP_SESSION_ID) ||
	    !(get || (x->kind == EXCHANGE_POST && token.n > 0)))
		return false;
	if (get)
		token = last ? last->value : (struct span){0};
	x->has_session = session_id_parse(token, x->worker->boot->session_key, &x->session);
	return true;
}

/* --- to the client --- */

static void on_message(struct inlet *i, struct span message)
{
	relay_event(((struct http_sse *)i->context)->exchange, message);
}

static bool is_congested(const struct inlet *i)
{
	return conn_congested(((const struct http_sse *)i->context)->exchange->conn);
}

static void on_recorded(struct session_call *call, int status, const struct session_record *record)
{
	struct http_sse *h = container_of(call, struct http_sse, broker);

	(void)record;
	if (status)
		LOG(h->exchange->worker->log, LOG_LEVEL_WARN,
		    "a session of HTTP+SSE would not outlive its stream", LOG_ERRNO(-status));
}

/* The session inside is another than the one that is written down. */
static void record_session(struct http_sse *h)
{
	struct exchange *x = h->exchange;
	struct session_record *r = &h->record;

	r->version = h->inlet->session.version;
	memcpy(
	    r->upstream_session, h->inlet->session.upstream_session, sizeof(r->upstream_session));
	r->changes += h->recorded;
	h->broker.done = on_recorded;
	int error = h->recorded ? sessions_update(x->worker->sessions, r, &h->broker)
				: sessions_create(x->worker->sessions, r, &h->broker);
	h->recorded |= error == 0;
}

static void on_progress(struct inlet *i)
{
	struct http_sse *h = i->context;

	if (i->session.upstream_session[0] && h->broker.request == 0 &&
	    strcmp(i->session.upstream_session, h->record.upstream_session) != 0)
		record_session(h);
}

static const struct inlet_ops ops = {on_message, is_congested, on_progress};

/* --- the stream --- */

static void on_mail(
    struct mailbox *box, enum mail_kind kind, struct span payload, struct mapping *memory)
{
	struct http_sse *h = container_of(box, struct http_sse, box);

	if (kind == MAIL_INLET && h->inlet)
		inlet_take(h->inlet, payload, memory);
}

static void begin(struct http_sse *h)
{
	struct exchange *x = h->exchange;
	struct worker *w = x->worker;
	struct conn *c = x->conn;
	char token[SESSION_ID_TEXT + 1], event[512];

	struct sockaddr_storage peer = clients_peer(c->client);
	h->inlet = inlet_open(w, x->route->config->path, &peer, &ops, h);
	if (!h->inlet) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	if (h->recorded) {
		memcpy(h->inlet->session.upstream_session, h->record.upstream_session,
		    sizeof(h->record.upstream_session));
		h->inlet->session.version = h->record.version;
	}
	session_id_format(&x->session, w->boot->session_key, token);
	int n = snprintf(event, sizeof(event), "id: %s\nevent: endpoint\ndata: %s?%.*s%s\n\n",
	    token, x->route->config->path, (int)parameter.n, parameter.p, token);
	timeout_arm(&w->timeouts.session_touch, &x->touch);
	relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		relay_piece(x, (struct span){event, (size_t)n});
	if (c->exchange == x)
		conn_flush(c);
	if (c->exchange == x && h->recorded)
		inlet_go_on(h->inlet);
}

static void start_anew(struct http_sse *h);

static void on_opened(struct mailbox *box, int status)
{
	struct http_sse *h = container_of(box, struct http_sse, box);

	if (status == 0)
		begin(h);
	else if (h->recorded) /* its other stream is still there */
		start_anew(h);
	else
		exchange_refuse(h->exchange, REPLY_BROKER_AWAY, NULL, (struct span){0});
}

static void open_box(struct http_sse *h)
{
	struct exchange *x = h->exchange;

	h->record.id = x->session;
	h->box.opened = on_opened;
	h->box.mail = on_mail;
	int error = mailbox_open_as(x->worker, &h->box, purpose, &x->session);
	if (error == -EEXIST && h->recorded)
		start_anew(h);
	else if (error)
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
}

static void start_anew(struct http_sse *h)
{
	struct exchange *x = h->exchange;

	mailbox_close(&h->box);
	h->recorded = false;
	h->record = (struct session_record){.version = MCP_2024_11_05,
	    .idle_timeout = (uint32_t)x->worker->config->sessions.idle_timeout};
	x->has_session = session_id_create(0, 0, &x->session) == 0;
	if (x->has_session)
		open_box(h);
	else
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
}

static void with_record(struct http_sse *h, const struct session_record *record)
{
	/* Those of Streamable HTTP have a route. */
	if (!record || record->route[0] || !record->upstream_session[0]) {
		start_anew(h);
		return;
	}
	h->recorded = true;
	h->record = *record;
	h->record.state = (struct span){0};
	open_box(h);
}

static void on_found(struct session_call *call, int status, const struct session_record *record)
{
	with_record(container_of(call, struct http_sse, broker), status == 0 ? record : NULL);
}

static void open_stream(struct exchange *x)
{
	struct worker *w = x->worker;
	struct http_sse *h = calloc(1, sizeof(*h));
	const struct session_record *record = NULL;
	int error = -ENOENT;

	if (!h) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	h->exchange = x;
	x->http_sse = h;
	h->broker.done = on_found;
	if (x->has_session) {
		error = 0;
		record = sessions_get(w->sessions, &x->session, &h->broker, &error);
	}
	if (record || error)
		with_record(h, record);
}

/* --- messages --- */

static void on_mailed(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);

	(void)record;
	if (status == 0)
		exchange_accept(x);
	else
		exchange_refuse(x, status == -ENOENT ? REPLY_NO_SSE : REPLY_BROKER_AWAY, NULL,
		    (struct span){0});
}

static void pass_message(struct exchange *x)
{
	struct mail_box_id box;

	x->lookup.done = on_mailed;
	if (!x->has_session || mailbox_id(x->worker, purpose, &x->session, &box))
		exchange_refuse(x, REPLY_NO_SSE, NULL, (struct span){0});
	else if (sessions_mail_long(x->worker->sessions, &box, MAIL_INLET, &x->body, &x->lookup))
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
}

void http_sse_start(struct exchange *x)
{
	if (x->kind == EXCHANGE_STREAM)
		open_stream(x);
	else
		pass_message(x);
}

/* --- life --- */

void http_sse_drained(struct exchange *x)
{
	if (x->http_sse->inlet)
		inlet_resume(x->http_sse->inlet);
}

void http_sse_drain(struct exchange *x)
{
	x->http_sse->draining = true;
}

void http_sse_leave(struct exchange *x)
{
	struct http_sse *h = x->http_sse;
	struct sessions *s = x->worker->sessions;

	session_call_cancel(s, &h->broker);
	mailbox_close(&h->box);
	if (h->inlet)
		inlet_close(h->inlet, !h->draining);
	if (h->recorded && !h->draining)
		sessions_end(s, &h->record.id, METRIC_END_CLIENT, NULL);
	h->inlet = NULL;
}

void http_sse_free(struct exchange *x)
{
	free(x->http_sse);
}
