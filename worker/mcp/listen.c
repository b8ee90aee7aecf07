/* listen: see listen.h. */
#include "worker/mcp/listen.h"

#include <errno.h>
#include <stdlib.h>

#include "common/raw.h"
#include "worker/mcp/cache.h"
#include "worker/mcp/catalogue.h"
#include "worker/mcp/errand.h"
#include "worker/mcp/fields.h"
#include "worker/mcp/virtual.h"
#include "worker/route.h"

/* Seconds: after an end or failure; after a change, as these come in bursts. */
static const double again_after = 1, soon_after = 0.05;

struct listening {
	struct errand *errand;
	struct mailbox box; /* says to the broker that this session has its stream */
	struct session_call lookup;
	struct era_wait era;
	struct timeout again, soon;
	struct buffer uris; /* that were asked for */
	bool acknowledged, gap, changed;
};

static void ask(struct errand *r);

/* --- towards the upstream --- */

static void ask_later(struct errand *r)
{
	struct listening *l = r->listening;

	upstream_call_cancel(&r->call);
	timeout_arm(&r->worker->timeouts.listen_again, &l->again);
}

static void on_again(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	ask(container_of(timeout, struct listening, again)->errand);
}

static void on_soon(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	struct listening *l = container_of(timeout, struct listening, soon);

	l->changed = true;
	ask(l->errand);
}

static int build(struct errand *r, const struct session_record *record)
{
	struct upstream *u = r->call.upstream;
	struct client_identity who = virtual_identity(record->state);
	struct compose c = {.out = &r->body, .bound = 8 * SESSION_STATE_MAX};
	struct buffer fields = {0};

	buffer_consume(&r->body, buffer_length(&r->body));
	buffer_consume(&r->call.head, buffer_length(&r->call.head));
	errand_number(r);
	to_modern_listen(
	    &c, span_of(r->id), &who, buffer_span(&u->discover), virtual_uris(record->state));
	struct span body = buffer_span(&r->body);
	if (!c.error)
		c.error = fields_put(&fields, r->translation.method, NULL, NULL);
	if (!c.error)
		c.error = relay_build_head(
		    &r->call.head, "POST", u, NULL, (struct span){0}, buffer_span(&fields), &body);
	buffer_release(&fields);
	return c.error;
}

static void send_listen(struct errand *r, const struct session_record *record)
{
	struct listening *l = r->listening;
	struct span uris = virtual_uris(record->state);
	bool same = l->changed && l->acknowledged && span_equal(buffer_span(&l->uris), uris);

	l->changed = false;
	if (same)
		return;
	buffer_consume(&l->uris, buffer_length(&l->uris));
	if (buffer_append(&l->uris, uris.p, uris.n, SESSION_STATE_MAX)) {
		ask_later(r);
		return;
	}
	buffer_keep(&l->uris, buffer_span(&l->uris));
	/* Between the one and the next, changes go unseen. */
	l->gap |= l->acknowledged;
	l->acknowledged = false;
	upstream_call_cancel(&r->call);
	if (build(r, record))
		ask_later(r);
	else
		errand_send(r);
}

static void on_record(struct session_call *call, int status, const struct session_record *record)
{
	struct errand *r = container_of(call, struct listening, lookup)->errand;

	if (status == 0)
		send_listen(r, record);
	else if (status == -ENOENT) /* it ended */
		relay_end_stream(r->exchange);
	else
		ask_later(r);
}

static void on_era(struct era_wait *wait, enum era era, int reason, const char *detail)
{
	struct errand *r = container_of(wait, struct listening, era)->errand;

	(void)reason;
	(void)detail;
	if (era == ERA_MODERN && buffer_length(&r->call.upstream->discover) > 0)
		ask(r);
	else
		ask_later(r);
}

static void ask(struct errand *r)
{
	struct listening *l = r->listening;
	int error = 0;

	/* What it announces this worker may not know yet. */
	if (buffer_length(&r->call.upstream->discover) == 0) {
		era_cancel(&l->era);
		l->era.done = on_era;
		if (!era_ask(r->call.upstream, &l->era))
			ask_later(r);
		return;
	}
	session_call_cancel(r->worker->sessions, &l->lookup);
	timeout_disarm(&r->worker->timeouts.listen_again, &l->again);
	l->lookup.done = on_record;
	const struct session_record *record =
	    sessions_get(r->worker->sessions, &r->client, &l->lookup, &error);
	if (record)
		send_listen(r, record);
	else if (error)
		ask_later(r);
}

/* --- from the upstream --- */

static void tell_of_gap(struct errand *r)
{
	static const char *const lists[] = {"tools", "prompts", "resources"};
	struct span discover = buffer_span(&r->call.upstream->discover), capabilities, one, changed;

	if (!raw_object(discover, "capabilities", &capabilities))
		return;
	for (int i = 0; i < 3 && !r->closed; i++) {
		if (!raw_object(capabilities, lists[i], &one) ||
		    !raw_member(one, "listChanged", &changed) || !span_equal(changed, SPAN("true")))
			continue;
		struct compose c = errand_compose(r);
		translate_list_changed(&c, lists[i]);
		errand_notice(r, &c);
	}
}

static void on_message(struct errand *r, const struct envelope *e)
{
	struct listening *l = r->listening;

	if (e->kind == ENVELOPE_RESULT || e->kind == ENVELOPE_ERROR) {
		ask_later(r);
		return;
	}
	if (e->kind != ENVELOPE_NOTIFICATION)
		return;
	if (!span_equal(e->method, SPAN("notifications/subscriptions/acknowledged"))) {
		struct compose c = errand_compose(r);
		if (span_equal(e->method, SPAN("notifications/tools/list_changed")))
			catalogue_forget(r->call.upstream);
		cache_hear(r->worker->cache, r->call.upstream, e);
		to_legacy_notice(&c, e);
		errand_notice(r, &c);
		return;
	}
	l->acknowledged = true;
	if (l->gap)
		tell_of_gap(r);
	l->gap = false;
}

static bool on_refused(struct errand *r, unsigned status, bool json)
{
	(void)status;
	(void)json;
	ask_later(r);
	return true;
}

static bool on_abandoned(struct errand *r)
{
	(void)r;
	return false;
}

static bool on_ended(struct errand *r)
{
	ask_later(r);
	return true;
}

static void on_closed(struct errand *r)
{
	struct listening *l = r->listening;

	r->listening = NULL;
	era_cancel(&l->era);
	session_call_cancel(r->worker->sessions, &l->lookup);
	timeout_disarm(&r->worker->timeouts.listen_again, &l->again);
	timeout_disarm(&r->worker->timeouts.listen_soon, &l->soon);
	mailbox_close(&l->box);
	buffer_release(&l->uris);
	free(l);
}

static const struct errand_way listen_way = {
    .action = UPSTREAM_ASK,
    .message = on_message,
    .refused = on_refused,
    .abandoned = on_abandoned,
    .ended = on_ended,
    .closed = on_closed,
};

/* --- the client's stream --- */

static void on_opened(struct mailbox *box, int status)
{
	struct errand *r = container_of(box, struct listening, box)->errand;
	struct exchange *x = r->exchange;
	struct conn *c = x->conn;

	if (status) {
		exchange_refuse(x, status == -EPROTO ? REPLY_SECOND_STREAM : REPLY_BROKER_AWAY,
		    NULL, (struct span){0});
		return;
	}
	relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		conn_flush(c);
	if (c->exchange == x)
		ask(r);
}

static void on_mail(struct mailbox *box, enum mail_kind kind, struct span payload)
{
	(void)box;
	(void)kind;
	(void)payload;
}

void listen_start(struct exchange *x, const struct session_record *record)
{
	struct listening *l = calloc(1, sizeof(*l));
	struct errand *r;

	(void)record;
	x->method = mcp_method_find(SPAN("subscriptions/listen"));
	r = l ? errand_create(x, &listen_way) : NULL;
	if (!r) {
		free(l);
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	l->errand = r;
	l->box.opened = on_opened;
	l->box.mail = on_mail;
	r->listening = l;
	timeout_arm(&x->worker->timeouts.session_touch, &x->touch);
	/* As long as the session's, so that nobody can guess it. */
	int error = mailbox_open_as(x->worker, &l->box, "stream", &x->session);
	if (error)
		exchange_refuse(x, error == -EEXIST ? REPLY_SECOND_STREAM : REPLY_BROKER_AWAY, NULL,
		    (struct span){0});
}

void listen_changed(struct worker *w, const struct session_id *session)
{
	struct errand *r, *next;

	LIST_FOREACH_SAFE (r, &w->errands, link, next) {
		if (r->way == &listen_way && memcmp(&r->client, session, sizeof(*session)) == 0 &&
		    r->exchange && r->exchange->answering)
			timeout_arm(&w->timeouts.listen_soon, &r->listening->soon);
	}
}

void listen_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.listen_again, w->loop, again_after, on_again);
	timeout_queue_init(&w->timeouts.listen_soon, w->loop, soon_after, on_soon);
}
