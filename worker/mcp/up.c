/* up: see up.h. */
#include "worker/mcp/up.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/raw.h"
#include "worker/mcp/batch.h"
#include "worker/mcp/listen.h"
#include "worker/mcp/fields.h"
#include "worker/mcp/question.h"
#include "worker/mcp/replay.h"
#include "worker/mcp/resume.h"
#include "worker/mcp/scanning.h"
#include "worker/mcp/virtual.h"
#include "worker/route.h"

enum { TRIES_MAX = 2 };
enum { CHANGES_MAX = 100 }; /* tries; with each that fails another one was made */

static const struct span no_data = {0};
static const struct errand_way up_way;

static void refuse(struct exchange *x, enum reply_id reply)
{
	exchange_refuse(x, reply, NULL, no_data);
}

/* --- answers of our own --- */

static void give_empty_result(struct exchange *x)
{
	struct buffer body = {0};
	struct compose c = {.out = &body, .bound = x->id.n + 64};

	translate_begin(&c, x->id);
	compose_member(&c, "result", SPAN("{}"));
	compose_close(&c, '}');
	if (c.error)
		refuse(x, REPLY_NO_MEMORY);
	else
		relay_answer(x, 200, buffer_span(&body), no_data);
	buffer_release(&body);
}

/* --- initialize --- */

static void on_created(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);
	struct upstream *u = x->route->upstream;
	struct buffer body = {0};
	struct compose c = {.out = &body, .bound = 8 * SESSION_STATE_MAX};
	char id[SESSION_ID_TEXT + 1], header[80];

	(void)record;
	if (status) {
		refuse(x, status == -ENOSPC ? REPLY_SESSIONS_FULL : REPLY_BROKER_AWAY);
		return;
	}
	x->has_session = true;
	session_id_format(&x->session, x->worker->boot->session_key, id);
	int n = snprintf(header, sizeof(header), "Mcp-Session-Id: %s\r\n", id);
	to_legacy_initialize(&c, buffer_span(&u->discover), x->id, x->revision, u->config->name);
	if (c.error)
		refuse(x, REPLY_NO_MEMORY);
	else
		relay_answer(x, 200, buffer_span(&body), (struct span){header, (size_t)n});
	buffer_release(&body);
}

/* The revision that was asked for if it is known, else the newest. */
static enum mcp_version negotiate(struct span asked)
{
	int version = mcp_version_find(asked);

	return version < 0 ? MCP_2025_11_25 : (enum mcp_version)version;
}

void up_initialize(struct exchange *x)
{
	struct worker *w = x->worker;
	const struct envelope *e;
	struct session_record r = {.idle_timeout = (uint32_t)w->config->sessions.idle_timeout};
	struct buffer state = {0};
	struct compose c = {.out = &state, .bound = SESSION_STATE_MAX};

	if (buffer_length(&x->route->upstream->discover) == 0) {
		exchange_upstream_failed(x, METRIC_REASON_PROTOCOL,
		    "it speaks none of the revisions that are spoken here");
		return;
	}
	if (!(e = exchange_message(x))) {
		refuse(x, REPLY_INVALID);
		return;
	}
	x->revision = negotiate(e->protocol_version);
	r.version = (uint8_t)x->revision;
	snprintf(r.route, sizeof(r.route), "%s", x->route->config->path);
	snprintf(r.upstream, sizeof(r.upstream), "%s", x->route->upstream->config->name);
	virtual_begin(&c, e, x->revision);
	r.state = buffer_span(&state);
	x->lookup.done = on_created;
	if (c.error)
		refuse(x, c.error == -EMSGSIZE ? REPLY_CLIENT_TOO_LONG : REPLY_NO_MEMORY);
	else if (session_id_create(0, 0, &r.id) || sessions_create(w->sessions, &r, &x->lookup))
		refuse(x, REPLY_BROKER_AWAY);
	else
		x->session = r.id;
	buffer_release(&state);
}

/* --- what changes the session --- */

static void change(struct exchange *x, const struct session_record *record);

static void on_fetched(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);

	if (status == 0)
		change(x, record);
	else
		refuse(x, status == -ENOENT ? REPLY_UNKNOWN_SESSION : REPLY_BROKER_AWAY);
}

static void on_changed(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);
	int error = 0;

	if (status == 0) {
		listen_changed(x->worker, &x->session);
		give_empty_result(x);
		return;
	}
	if (status != -EAGAIN || ++x->tries > CHANGES_MAX) {
		refuse(x, status == -ENOENT ? REPLY_UNKNOWN_SESSION : REPLY_BROKER_AWAY);
		return;
	}
	/* Another worker changed it in the same moment. */
	x->lookup.done = on_fetched;
	record = sessions_get(x->worker->sessions, &x->session, &x->lookup, &error);
	if (record)
		change(x, record);
	else if (error)
		refuse(x, REPLY_BROKER_AWAY);
}

static void put_level(struct compose *c, struct span state, const struct envelope *e)
{
	struct span level;

	if (raw_member(e->params, "level", &level) && liaison_level(level) >= 0)
		virtual_set_level(c, state, level);
	else
		c->error = -EINVAL;
}

static void put_uri(struct compose *c, struct span state, const struct envelope *e, bool subscribed)
{
	struct span uri;

	if (raw_member(e->params, "uri", &uri) && uri.p[0] == '"')
		virtual_set_uri(c, state, uri, subscribed);
	else
		c->error = -EINVAL;
}

static void put_subscribed(struct compose *c, struct span state, const struct envelope *e)
{
	put_uri(c, state, e, true);
}

static void put_unsubscribed(struct compose *c, struct span state, const struct envelope *e)
{
	put_uri(c, state, e, false);
}

static const struct {
	struct span method;
	void (*put)(struct compose *c, struct span state, const struct envelope *e);
} changes[] = {
    {{"logging/setLevel", 16}, put_level},
    {{"resources/subscribe", 19}, put_subscribed},
    {{"resources/unsubscribe", 21}, put_unsubscribed},
};

static void change(struct exchange *x, const struct session_record *record)
{
	const struct envelope *e = exchange_message(x);
	struct session_record next = *record;
	struct buffer state = {0};
	struct compose c = {
	    .out = &state, .bound = SESSION_STATE_MAX, .error = e && e->params.p ? 0 : -EINVAL};

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]) && !c.error; i++) {
		if (span_equal(changes[i].method, x->method->name))
			changes[i].put(&c, record->state, e);
	}
	next.changes++;
	next.state = buffer_span(&state);
	x->lookup.done = on_changed;
	if (c.error == -EINVAL)
		refuse(x, REPLY_BAD_PARAMS);
	else if (c.error)
		refuse(x, c.error == -EMSGSIZE ? REPLY_CLIENT_TOO_LONG : REPLY_NO_MEMORY);
	else if (sessions_update(x->worker->sessions, &next, &x->lookup))
		refuse(x, REPLY_BROKER_AWAY);
	buffer_release(&state);
}

/* --- requests --- */

/* What must outlive the exchange, as the errand may. */
static int keep_client(
    struct errand *r, const struct envelope *e, const struct session_record *record)
{
	struct exchange *x = r->exchange;
	struct span token = e->progress_token.p ? e->progress_token : SPAN("");
	struct span parts[] = {x->id, token, record->state, buffer_span(&x->body)};
	bool taken = x->scanning != NULL;
	unsigned count = taken ? 3 : 4;
	size_t bound = 0;

	for (unsigned i = 0; i < count; i++)
		bound += parts[i].n;
	for (unsigned i = 0; i < count; i++) {
		int error = buffer_append(&r->kept, parts[i].p, parts[i].n, bound);
		if (error)
			return error;
	}
	const char *p = buffer_span(&r->kept).p;
	r->translation.id = (struct span){p, x->id.n};
	r->translation.token = (struct span){p += x->id.n, token.n};
	r->state = (struct span){p += token.n, record->state.n};
	r->request =
	    taken ? errand_take_request(r) : (struct span){p + record->state.n, parts[3].n};
	r->translation.revision = (enum mcp_version)record->version;
	r->translation.keep_log = virtual_identity(r->state).level.n > 0;
	return 0;
}

/* `e` is of r->request. */
static int send_scanned(
    struct errand *r, const struct envelope *e, const struct retry_inputs *inputs)
{
	struct worker *w = r->worker;
	struct upstream *u = r->call.upstream;
	struct client_identity who = virtual_identity(r->state);
	struct compose c = errand_compose_request(r, 4 * w->config->limits.body_size);
	struct buffer fields = {0};

	upstream_call_cancel(&r->call);
	reading_reset(&r->reading);
	buffer_consume(&r->call.head, buffer_length(&r->call.head));
	const struct annotations *annotations =
	    r->translation.method->class == METRIC_METHOD_TOOLS_CALL ? catalogue_find(u, e->name)
								     : NULL;
	errand_number(r);
	to_modern_request(&c, e, span_of(r->id), &who, inputs);
	struct span body = {.n = compose_length(&c)};
	if (!c.error)
		c.error = fields_put(&fields, r->translation.method, e, annotations);
	if (!c.error)
		c.error = relay_build_head(
		    &r->call.head, "POST", u, NULL, no_data, buffer_span(&fields), &body);
	buffer_release(&fields);
	return c.error ? c.error : errand_splice(r, &r->body, &c, errand_send);
}

int up_send(struct errand *r, const struct retry_inputs *inputs)
{
	struct envelope *e = &r->worker->envelope;
	struct envelope_fault fault;

	if (r->found)
		return send_scanned(r, scanning_found(r->found), inputs);
	if (envelope_scan(r->request, r->worker->config->limits.json_depth, e, &fault))
		return -EINVAL;
	return send_scanned(r, e, inputs);
}

static void on_catalogue(struct catalogue_wait *wait)
{
	struct errand *r = container_of(wait, struct errand, catalogue);

	if (up_send(r, NULL))
		errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
}

/* When it is known what headers the tool wants. */
static void send_informed(struct errand *r)
{
	r->catalogue.done = on_catalogue;
	if (r->translation.method->class != METRIC_METHOD_TOOLS_CALL ||
	    catalogue_ready(r->call.upstream, ERA_MODERN, &r->catalogue))
		on_catalogue(&r->catalogue);
}

static void send_request(struct exchange *x, const struct session_record *record)
{
	const struct envelope *e = exchange_message(x);
	struct errand *r = errand_create(x, &up_way);

	if (!r || !e || keep_client(r, e, record)) {
		refuse(x, REPLY_NO_MEMORY);
		return;
	}
	timeout_arm(&x->worker->timeouts.session_touch, &x->touch);
	replay_expect(r);
	send_informed(r);
}

/* The type of a result. Servers before the final revision gave none: complete. */
static struct span result_type(const struct envelope *e)
{
	struct span type = envelope_member(e, e->result, "resultType");

	return type.p ? type : SPAN("\"complete\"");
}

/* -32020: the upstream's tools are not as they were known here. */
static bool is_about_headers(const struct envelope *e)
{
	struct span code;

	return e->kind == ENVELOPE_ERROR && raw_member(e->error, "code", &code) &&
	       span_equal(code, SPAN("-32020"));
}

static void on_message(struct errand *r, const struct envelope *e)
{
	bool ours = e->kind == ENVELOPE_ERROR || span_equal(e->id, span_of(r->id));
	struct span type = SPAN("\"complete\"");
	struct compose c;

	if (e->kind == ENVELOPE_NOTIFICATION) {
		c = errand_compose(r);
		if (translate_notification(&c, e, &r->translation))
			errand_notice(r, &c);
		return;
	}
	if (e->kind == ENVELOPE_REQUEST || !ours) /* no server of that era asks this way */
		return;
	if (is_about_headers(e) && r->tries < TRIES_MAX && !r->questions) {
		catalogue_forget(r->call.upstream);
		r->again = true;
		return;
	}
	if (e->kind == ENVELOPE_RESULT)
		type = result_type(e);
	if (span_equal(type, SPAN("\"input_required\""))) {
		question_ask(r, e);
		return;
	}
	c = errand_compose_answer(r);
	if (span_equal(type, SPAN("\"complete\"")))
		to_legacy_answer(&c, e, &r->translation);
	else
		translate_error(&c, r->translation.id, -32603,
		    SPAN("The upstream gave a result of a type that this client has no word for"),
		    no_data);
	errand_answer(r, &c, 200);
}

/* No server of the stateless era refuses without saying why: it may be one no longer. */
static bool on_refused(struct errand *r, unsigned status, bool json)
{
	if (!json && (status == 400 || status == 404 || status == 405))
		era_forget(r->call.upstream);
	return false;
}

/* Its era does not cancel by closing a connection, and the client may come back for an answer that
 * is long. */
static bool on_abandoned(struct errand *r)
{
	bool coming = r->replay && (r->reading.busy || r->answered);

	return !r->cancelled && (r->call.state != CALL_OVER || coming);
}

static bool on_ended(struct errand *r)
{
	if (!r->again)
		return question_ended(r);
	r->again = false;
	send_informed(r);
	return true;
}

static void on_closed(struct errand *r)
{
	catalogue_cancel(&r->catalogue);
	question_free(r);
	replay_leave(r);
}

static const struct errand_way up_way = {
    .action = UPSTREAM_ASK,
    .resumes = true,
    .message = on_message,
    .refused = on_refused,
    .abandoned = on_abandoned,
    .ended = on_ended,
    .closed = on_closed,
};

/* --- cancellation --- */

static void cancel(struct errand *r)
{
	struct exchange *x = r->exchange;

	r->cancelled = true;
	if (!x) {
		errand_close(r);
		return;
	}
	/* Nothing is answered, so the stream that would have held it ends. */
	if (!x->answering)
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, no_data);
	if (r->exchange)
		relay_over(x, UPSTREAM_OK, "");
}

void up_cancelled(struct worker *w, struct span payload)
{
	struct errand *r, *next;
	struct session_id session;

	if (payload.n <= sizeof(session.bytes))
		return;
	memcpy(session.bytes, payload.p, sizeof(session.bytes));
	struct span id = {payload.p + sizeof(session.bytes), payload.n - sizeof(session.bytes)};
	LIST_FOREACH_SAFE (r, &w->errands, link, next) {
		if (r->way == &up_way && memcmp(&r->client, &session, sizeof(session)) == 0 &&
		    span_equal(r->translation.id, id))
			cancel(r);
	}
}

static void announce_cancellation(struct exchange *x, struct span id)
{
	static const struct mail_box_id everybody = {{0}};
	struct buffer mail = {0};

	if (!buffer_append(&mail, x->session.bytes, sizeof(x->session.bytes), MAIL_INLINE_MAX) &&
	    !buffer_append(&mail, id.p, id.n, MAIL_INLINE_MAX)) {
		up_cancelled(x->worker, buffer_span(&mail));
		if (sessions_mail(
			x->worker->sessions, &everybody, MAIL_CANCELLED, buffer_span(&mail), NULL))
			LOG_TEXT(x->worker->log, LOG_LEVEL_WARN, "a cancellation is lost");
	}
	buffer_release(&mail);
}

/* --- what comes --- */

static void take_notification(struct exchange *x, const struct envelope *e)
{
	if (e->kind != ENVELOPE_NOTIFICATION)
		question_answered(x, e);
	else if (span_equal(e->method, SPAN("notifications/cancelled")) && e->cancelled_id.p)
		announce_cancellation(x, e->cancelled_id);
	exchange_accept(x);
}

static bool changes_session(const struct mcp_method *method)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		if (span_equal(changes[i].method, method->name))
			return true;
	}
	return false;
}

void up_start(struct exchange *x, const struct session_record *record)
{
	const struct envelope *e;

	if (x->kind == EXCHANGE_STREAM && resume_stream(x))
		return;
	if (x->kind == EXCHANGE_STREAM)
		listen_start(x);
	else if (x->is_batch)
		batch_start(x, record);
	else if (!(e = exchange_message(x)))
		refuse(x, REPLY_INVALID);
	else if (!x->is_request)
		take_notification(x, e);
	else if (span_equal(x->method->name, SPAN("ping")))
		give_empty_result(x);
	else if (changes_session(x->method))
		change(x, record);
	else if (x->method->eras == METHOD_ALWAYS && x->method->class != METRIC_METHOD_CONTROL)
		send_request(x, record);
	else
		exchange_refuse(x, REPLY_LEGACY_METHOD, x->method_name, no_data);
}
