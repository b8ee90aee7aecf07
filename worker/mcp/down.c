/* down: see down.h. */
#include "worker/mcp/down.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/raw.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/errand.h"
#include "worker/mcp/feed.h"
#include "worker/mcp/lease.h"
#include "worker/mcp/liaison.h"
#include "worker/mcp/modern.h"
#include "worker/mcp/parked.h"
#include "worker/mcp/resume.h"
#include "worker/route.h"

enum { TRIES_MAX = 2 };

static const struct errand_way down_way;

static void with_session(struct exchange *x, const struct session_record *record);

/* --- the session --- */

static void on_opened(
    struct liaison_wait *wait, const struct session_record *record, int reason, const char *detail)
{
	struct exchange *x = container_of(wait, struct exchange, liaison);

	if (record)
		with_session(x, record);
	else
		exchange_upstream_failed(x, reason, detail);
}

static struct liaison_want want_of(const struct exchange *x)
{
	return (struct liaison_want){x->route->upstream, x->capabilities, x->log_level,
	    x->lease ? lease_number(x->lease) : 0};
}

static void open_session(struct exchange *x)
{
	struct liaison_want want = want_of(x);

	x->liaison.done = on_opened;
	if (!liaison_open(&want, &x->liaison))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
}

static void on_found(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);

	if (status == 0)
		with_session(x, record);
	else if (status == -ENOENT)
		open_session(x);
	else
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
}

static void find_session(struct exchange *x)
{
	struct liaison_want want = want_of(x);
	int error = 0;

	if (x->method->asks && want.capabilities != 0) {
		x->lease = lease_take(x->worker, &want);
		if (!x->lease && lease_is_needed(want.upstream, want.capabilities)) {
			exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
			return;
		}
		want = want_of(x);
	}
	x->session = liaison_id(&want);
	x->has_session = true;
	x->lookup.done = on_found;
	const struct session_record *record =
	    sessions_get(x->worker->sessions, &x->session, &x->lookup, &error);
	if (record)
		with_session(x, record);
	else if (error)
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
}

/* --- the request --- */

static void answer_discover(struct exchange *x, const struct session_record *record)
{
	struct buffer body = {0};
	struct compose c = {.out = &body, .bound = 2 * SESSION_STATE_MAX};

	to_modern_discover(&c, record->state, x->id);
	if (c.error)
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
	else
		relay_answer(x, 200, buffer_span(&body), (struct span){0});
	buffer_release(&body);
}

/* What the errand must remember of the session. 0 or -ENOMEM. */
static int keep_session(struct errand *r, const struct session_record *record)
{
	struct exchange *x = r->exchange;
	struct span info = {0};

	r->record = r->record ? r->record : malloc(sizeof(*r->record));
	if (!r->record)
		return -ENOMEM;
	raw_object(record->state, "serverInfo", &info);
	int error = buffer_append(&r->kept, info.p ? info.p : "", info.n, SESSION_STATE_MAX);
	*r->record = *record;
	r->record->state = (struct span){0};
	r->translation.server_info = buffer_span(&r->kept);
	r->translation.revision = (enum mcp_version)record->version;
	r->translation.keep_log = x->log_level >= 0;
	r->capabilities = x->capabilities;
	r->lease = x->lease;
	x->lease = NULL;
	return error;
}

static void dispatch(struct errand *r)
{
	if (r->lease)
		lease_send(r->lease, r);
	else
		errand_send(r);
}

static int build(struct errand *r, const struct envelope *e)
{
	struct exchange *x = r->exchange;
	struct compose c = errand_compose_request(r, 2 * x->worker->config->limits.body_size);

	r->translation.token = e->progress_token;
	to_legacy_request(&c, e, span_of(r->id));
	struct span body = {.n = compose_length(&c)};
	if (!c.error)
		c.error = relay_build_head(&r->call.head, "POST", x->route->upstream, r->record,
		    (struct span){0}, buffer_span(&x->forward), &body);
	return c.error ? c.error : errand_splice(r, &r->body, &c, dispatch);
}

static void with_session(struct exchange *x, const struct session_record *record)
{
	const struct envelope *e;
	struct errand *r;

	if (span_equal(x->method->name, SPAN("server/discover"))) {
		answer_discover(x, record);
		return;
	}
	e = exchange_message(x);
	r = x->errand ? x->errand : errand_create(x, &down_way);
	bool ready = e && r && !keep_session(r, record);
	if (ready)
		timeout_arm(&x->worker->timeouts.session_touch, &x->touch);
	if (!ready || build(r, e))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
}

/* --- the answer --- */

/* Questions of a server that its session can't have. */
static void refuse_question(struct errand *r, struct span id, struct span method)
{
	struct buffer body = {0};
	struct compose c = {.out = &body, .bound = ERRAND_MESSAGE_MAX};

	to_legacy_refusal(&c, id, method);
	if (!c.error)
		aside_post(r->call.upstream, r->record, buffer_span(&body));
	buffer_release(&body);
}

static void on_question(struct errand *r, const struct envelope *e)
{
	unsigned needed = capability_needed(e->method, e->params);
	struct span id = e->id, method = e->method;

	if (needed && !(needed & r->capabilities))
		r->missing |= needed;
	if (!parked_ask(r, e))
		refuse_question(r, id, method);
}

static void on_message(struct errand *r, const struct envelope *e)
{
	struct compose c;

	if (e->kind == ENVELOPE_REQUEST) {
		on_question(r, e);
		return;
	}
	if (parked_keep(r, e))
		return;
	c = errand_compose(r);
	if (e->kind == ENVELOPE_NOTIFICATION) {
		if (translate_notification(&c, e, &r->translation))
			errand_notice(r, &c);
	} else if (span_equal(e->id, span_of(r->id)) || e->kind == ENVELOPE_ERROR) {
		unsigned status;
		if (is_about_urls(e) && r->translation.method->asks) {
			status = to_modern_urls(&c, e, &r->translation, r->capabilities);
		} else if (e->kind == ENVELOPE_ERROR && r->missing) {
			status = to_modern_missing(&c, r->translation.id, r->missing);
		} else {
			c = errand_compose_answer(r);
			to_modern_answer(&c, e, &r->translation);
			status = modern_status(errand_message(r));
		}
		errand_answer(r, &c, status);
	}
}

/* It was not carried out, so it may be sent again, in a new session. */
static bool on_refused(struct errand *r, unsigned status, bool json)
{
	struct exchange *x = r->exchange;
	struct worker *w = r->worker;

	(void)json;
	if (status != 404 || !r->record->upstream_session[0] || !x)
		return false;
	LOG(w->log, LOG_LEVEL_INFO, "upstream forgot its session",
	    LOG_STR("upstream", x->route->upstream->config->name));
	sessions_end(w->sessions, &x->session, METRIC_END_UPSTREAM, NULL);
	if (r->tries >= TRIES_MAX) {
		errand_fail(r, METRIC_REASON_CLOSED, "it forgets its sessions");
		return true;
	}
	upstream_call_cancel(&r->call);
	x->lease = r->lease;
	r->lease = NULL;
	if (x->lease)
		lease_forget(x->lease);
	buffer_consume(&r->call.head, buffer_length(&r->call.head));
	buffer_consume(&r->body, buffer_length(&r->body));
	buffer_consume(&r->kept, buffer_length(&r->kept));
	open_session(x);
	return true;
}

/* The client closed its stream, which is how it cancels there and not how it is done here. */
static bool on_abandoned(struct errand *r)
{
	errand_cancel(r);
	return false;
}

static void on_closed(struct errand *r)
{
	parked_free(r);
	if (r->lease)
		lease_give_back(r->worker, r->lease, r->answered);
}

static const struct errand_way down_way = {
    .action = UPSTREAM_POST,
    .message = on_message,
    .refused = on_refused,
    .abandoned = on_abandoned,
    .ended = parked_ended,
    .closed = on_closed,
};

void down_start(struct exchange *x)
{
	const struct envelope *e = exchange_message(x);
	struct span level;

	if (!x->is_request) { /* none of this era's has a counterpart */
		exchange_accept(x);
		return;
	}
	if (!e) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	x->capabilities = capabilities_bits(e->client_capabilities);
	x->log_level = -1;
	if (raw_member(e->meta, "io.modelcontextprotocol/logLevel", &level) &&
	    (x->log_level = liaison_level(level)) < 0) {
		exchange_refuse(x, REPLY_MODERN_LEVEL, NULL, (struct span){0});
		return;
	}
	if (resume_start(x, e))
		return;
	if (x->method->stream)
		feed_listen(x);
	else
		find_session(x);
}
