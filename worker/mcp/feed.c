/* feed: see feed.h. */
#include "worker/mcp/feed.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/raw.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/catalogue.h"
#include "worker/mcp/subscription.h"
#include "worker/mcp/translate/translate.h"
#include "worker/route.h"

enum {
	EVENT_MAX = 4 * 1024 * 1024,
	NEWS_MAX = 2 * EVENT_MAX, /* what came in one turn */
	PIECE_MAX = 64 * 1024,    /* composed before it is handed over */
	WAITING_A_TURN = 64
};

/* Seconds: after a failure; between two portions of those who wait. */
static const double again_after = 1, more_after = 0.001;

/* What can be listened to beside resources. */
static const struct {
	const char *list, *wanted;
	struct span method;
} lists[FEED_LISTS] = {
    {"tools", "toolsListChanged", {"notifications/tools/list_changed", 32}},
    {"prompts", "promptsListChanged", {"notifications/prompts/list_changed", 34}},
    {"resources", "resourcesListChanged", {"notifications/resources/list_changed", 36}},
};

static const struct span updated = {"notifications/resources/updated", 31};

struct subscriber {
	TAILQ_ENTRY(subscriber) link; /* the feed's waiting, until it is acknowledged */
	struct hearer hearer;         /* from then on */
	struct feed *feed;
	struct exchange *exchange;
	bool wants[FEED_LISTS];
	struct buffer uris; /* raw array */
};

/* What the upstream said, as it stands in the news, before its params: read once for all. */
struct notice {
	unsigned what; /* of the lists, or FEED_LISTS: the resource `uri` was updated */
	size_t params; /* bytes that follow */
	size_t uri_at, uri;
};

static void stream_open(struct feed *f);
static void serve_waiting(struct feed *f);

/* --- life --- */

static struct liaison_want want_of(const struct feed *f)
{
	return (struct liaison_want){f->upstream, 0, -1, UINT_MAX};
}

static void feed_close(struct feed *f)
{
	struct worker *w = f->upstream->worker;

	liaison_cancel(&f->wait);
	upstream_call_cancel(&f->call);
	timeout_disarm(&w->timeouts.feed_again, &f->again);
	timeout_disarm(&w->timeouts.feed_more, &f->more);
	fanout_close(&f->fanout);
	subscriptions_close(f);
	if (f->open) {
		aside_end_session(w, &f->record);
		sessions_end(w->sessions, &f->record.id, METRIC_END_CLIENT, NULL);
	}
	LIST_REMOVE(f, link);
	LIST_INSERT_HEAD(&w->closed_feeds, f, link);
}

void feeds_free_closed(struct worker *w)
{
	struct feed *f;

	while ((f = LIST_FIRST(&w->closed_feeds))) {
		LIST_REMOVE(f, link);
		subscriptions_free(f);
		fanout_free(&f->fanout);
		buffer_release(&f->call.head);
		sse_data_release(&f->events);
		free(f);
	}
}

void feeds_close(struct worker *w)
{
	while (!LIST_EMPTY(&w->feeds))
		feed_close(LIST_FIRST(&w->feeds));
	feeds_free_closed(w);
}

/* Those who wait, until there is something to tell them. */
static void stop_serving(struct feed *f)
{
	f->next = NULL;
	f->once_more = false;
	timeout_disarm(&f->upstream->worker->timeouts.feed_more, &f->more);
}

static void try_again(struct feed *f)
{
	f->gap = true;
	f->streaming = false;
	if (!f->failing)
		stop_serving(f);
	upstream_call_cancel(&f->call);
	timeout_arm(&f->upstream->worker->timeouts.feed_again, &f->again);
}

/* Who waits is told; for the others it is opened again. */
static void broke(struct feed *f, int reason, const char *detail)
{
	stop_serving(f);
	f->failing = true;
	f->reason = reason;
	snprintf(f->detail, sizeof(f->detail), "%s", detail);
	f->next = TAILQ_FIRST(&f->waiting);
	serve_waiting(f);
	if (!f->fanout.closed)
		try_again(f);
}

/* --- the session --- */

static void announce(struct feed *f)
{
	struct span capabilities = {0}, one, value;

	raw_object(f->record.state, "capabilities", &capabilities);
	for (int i = 0; i < FEED_LISTS; i++)
		f->announced[i] = raw_object(capabilities, lists[i].list, &one) &&
				  raw_member(one, "listChanged", &value) &&
				  span_equal(value, SPAN("true"));
	f->subscribes = raw_object(capabilities, "resources", &one) &&
			raw_member(one, "subscribe", &value) && span_equal(value, SPAN("true"));
}

static void on_session(
    struct liaison_wait *wait, const struct session_record *record, int reason, const char *detail)
{
	struct feed *f = container_of(wait, struct feed, wait);

	if (!record) {
		broke(f, reason, detail);
		return;
	}
	f->open = true;
	f->record = *record;
	announce(f);
	f->record.state = (struct span){0};
	subscriptions_ask_all(f);
	stream_open(f);
}

static void session_open(struct feed *f)
{
	struct liaison_want want = want_of(f);

	f->wait.done = on_session;
	if (!liaison_open(&want, &f->wait))
		try_again(f);
}

static void on_again(struct timeout_queue *queue, struct timeout *timeout)
{
	struct feed *f = container_of(timeout, struct feed, again);

	(void)queue;
	if (f->open)
		stream_open(f);
	else
		session_open(f);
}

/* --- towards listeners --- */

/* A notification of ours or the upstream's with the id of that listen. */
static void put_event(
    struct compose *c, const struct exchange *x, struct span method, struct span params)
{
	static const char *const meta_only[] = {"_meta", NULL};

	compose_raw(c, SPAN("event: message\ndata: "));
	compose_open(c, '{');
	compose_member(c, "jsonrpc", SPAN("\"2.0\""));
	compose_text(c, "method", method);
	compose_key(c, "params");
	compose_open(c, '{');
	compose_key(c, "_meta");
	compose_open(c, '{');
	compose_member(c, "io.modelcontextprotocol/subscriptionId", x->id);
	compose_close(c, '}');
	compose_members(c, params, meta_only);
	compose_close(c, '}');
	compose_close(c, '}');
	compose_raw(c, SPAN("\n\n"));
	c->comma = false;
}

/* What was put. The exchange may be over then. */
static void hand_over(struct exchange *x, struct compose *c)
{
	struct conn *conn = x->conn;

	if (c->error)
		conn_break(conn);
	else
		relay_piece(x, buffer_span(c->out));
	if (conn->exchange == x)
		conn_flush(conn);
	/* A listener that does not read is not waited for: others would have to wait, too. */
	if (conn->exchange == x && conn_congested(conn))
		conn_break(conn);
	buffer_consume(c->out, buffer_length(c->out));
}

static bool notice_next(struct span *news, struct notice *n, struct span *params)
{
	if (news->n == 0)
		return false;
	memcpy(n, news->p, sizeof(*n));
	*params = (struct span){news->p + sizeof(*n), n->params};
	news->p += sizeof(*n) + n->params;
	news->n -= sizeof(*n) + n->params;
	return true;
}

static bool wants(const struct subscriber *l, const struct notice *n, struct span params)
{
	struct span rest = buffer_span(&l->uris), uri;

	if (n->what < FEED_LISTS)
		return l->wants[n->what];
	while (raw_next(&rest, &uri)) {
		if (span_equal(uri, (struct span){params.p + n->uri_at, n->uri}))
			return true;
	}
	return false;
}

static void give(struct hearer *h, struct span news)
{
	const struct subscriber *l = container_of(h, struct subscriber, hearer);
	struct exchange *x = l->exchange;
	const struct conn *conn = x->conn;
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = PIECE_MAX + EVENT_MAX};
	struct span params;
	struct notice n;

	while (conn->exchange == x && notice_next(&news, &n, &params)) {
		if (wants(l, &n, params))
			put_event(
			    &c, x, n.what < FEED_LISTS ? lists[n.what].method : updated, params);
		if (c.error || buffer_length(&out) >= PIECE_MAX)
			hand_over(x, &c);
	}
	if (conn->exchange == x && buffer_length(&out) > 0)
		hand_over(x, &c);
	buffer_release(&out);
}

static void acknowledge(struct subscriber *l)
{
	struct feed *f = l->feed;
	struct exchange *x = l->exchange;
	struct conn *conn = x->conn;
	struct buffer out = {0}, event_out = {0};
	struct compose c = {.out = &out, .bound = EVENT_MAX};
	struct compose event = {.out = &event_out, .bound = EVENT_MAX};
	struct span rest = buffer_span(&l->uris), uri;

	compose_open(&c, '{');
	compose_key(&c, "notifications");
	compose_open(&c, '{');
	for (int i = 0; i < FEED_LISTS; i++) {
		l->wants[i] &= f->announced[i] && f->streaming;
		if (l->wants[i])
			compose_member(&c, lists[i].wanted, SPAN("true"));
	}
	if (f->subscribes && raw_next(&rest, &uri)) {
		compose_key(&c, "resourceSubscriptions");
		compose_open(&c, '[');
		do {
			if (f->streaming && subscription_is_kept(f, uri))
				compose_element(&c, uri);
		} while (raw_next(&rest, &uri));
		compose_close(&c, ']');
	}
	compose_close(&c, '}');
	compose_close(&c, '}');
	TAILQ_REMOVE(&f->waiting, l, link);
	fanout_join(&f->fanout, &l->hearer);
	x->session = f->record.id;
	timeout_arm(&x->worker->timeouts.session_touch, &x->touch);
	put_event(&event, x, SPAN("notifications/subscriptions/acknowledged"), buffer_span(&out));
	if (c.error || event.error) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
	} else {
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
		if (conn->exchange == x)
			hand_over(x, &event);
	}
	buffer_release(&out);
	buffer_release(&event_out);
}

/* --- those who wait --- */

static struct subscriber *next_waiting(struct feed *f)
{
	if (!f->next && f->once_more) {
		f->once_more = false;
		f->next = TAILQ_FIRST(&f->waiting);
	}
	return f->next;
}

/* Some of them, and later the rest. */
static void serve_waiting(struct feed *f)
{
	struct subscriber *l;

	for (int budget = WAITING_A_TURN; budget > 0 && (l = next_waiting(f)); budget--) {
		f->next = TAILQ_NEXT(l, link);
		if (f->failing)
			exchange_upstream_failed(l->exchange, f->reason, f->detail);
		else if (subscriptions_settled(f, buffer_span(&l->uris)))
			acknowledge(l);
	}
	if (f->fanout.closed)
		return;
	if (f->next || f->once_more)
		timeout_arm(&f->upstream->worker->timeouts.feed_more, &f->more);
	else
		f->failing = false;
}

static void on_more(struct timeout_queue *queue, struct timeout *timeout)
{
	struct feed *f = container_of(timeout, struct feed, more);

	(void)queue;
	serve_waiting(f);
}

/* What each listener waits for may be known now. */
static void feed_settle(struct feed *f)
{
	if (!f->streaming && !f->refused)
		return;
	if (f->next && !f->failing) {
		f->once_more = true;
		return;
	}
	f->failing = false;
	f->next = TAILQ_FIRST(&f->waiting);
	serve_waiting(f);
}

void feed_subscriptions_changed(struct feed *f)
{
	feed_settle(f);
}

/* --- from the upstream --- */

static int put_notice(struct feed *f, unsigned what, struct span params, struct span uri)
{
	const struct notice n = {
	    .what = what,
	    .params = params.n,
	    .uri_at = uri.n > 0 ? (size_t)(uri.p - params.p) : 0,
	    .uri = uri.n,
	};
	const struct span head = {(const char *)&n, sizeof(n)};

	struct buffer *fresh = &f->fanout.fresh;

	int error = BUFFER_ADD(fresh, NEWS_MAX, head, params);
	if (!error)
		sse_join_lines(fresh->data + fresh->tail - params.n, params.n);
	return error;
}

/* 0 or -errno: there is no room for it. */
static int take(struct feed *f, const struct envelope *e)
{
	struct span uri;

	if (span_equal(e->method, lists[0].method))
		catalogue_forget(f->upstream);
	for (unsigned i = 0; i < FEED_LISTS; i++) {
		if (span_equal(lists[i].method, e->method))
			return put_notice(
			    f, i, e->params.p ? e->params : SPAN("{}"), (struct span){0});
	}
	if (span_equal(e->method, updated) && raw_member(e->params, "uri", &uri))
		return put_notice(f, FEED_LISTS, e->params, uri);
	return 0;
}

static void tell_of_gap(struct feed *f)
{
	f->gap = false;
	for (unsigned i = 0; i < FEED_LISTS; i++)
		f->gap |= put_notice(f, i, SPAN("{}"), (struct span){0}) != 0;
	fanout_deliver(&f->fanout);
}

static void answer_question(struct feed *f, const struct envelope *e)
{
	struct buffer body = {0};
	struct compose c = {.out = &body, .bound = EVENT_MAX};

	to_legacy_refusal(&c, e->id, e->method);
	if (!c.error)
		aside_post(f->upstream, &f->record, buffer_span(&body));
	buffer_release(&body);
}

static int on_event(struct sse_data *events, struct span data)
{
	struct feed *f = container_of(events, struct feed, events);
	struct worker *w = f->upstream->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	if (envelope_scan(data, w->config->limits.json_depth, e, &fault))
		return 0;
	if (e->kind == ENVELOPE_REQUEST)
		answer_question(f, e);
	else if (e->kind == ENVELOPE_NOTIFICATION)
		return take(f, e);
	return 0;
}

static struct feed *feed_of(struct upstream_call *call)
{
	return container_of(call, struct feed, call);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct feed *f = feed_of(call);

	if (head->status == 404 && f->record.upstream_session[0]) {
		/* It forgot the session: a new one, with all subscriptions. */
		f->open = false;
		sessions_end(
		    f->upstream->worker->sessions, &f->record.id, METRIC_END_UPSTREAM, NULL);
		subscriptions_forget(f);
		try_again(f);
		return;
	}
	f->streaming = head->status == 200;
	f->refused = head->status == 405;
	if (!f->streaming && !f->refused)
		broke(f, METRIC_REASON_STATUS, "it refused to open a stream");
	if (f->streaming && f->gap)
		tell_of_gap(f);
	feed_settle(f);
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct feed *f = feed_of(call);

	if (f->streaming && sse_data_feed(&f->events, p, n, EVENT_MAX, on_event) < 0) {
		try_again(f);
		fanout_deliver(&f->fanout);
	}
}

static void on_read_end(struct upstream_call *call)
{
	fanout_deliver(&feed_of(call)->fanout);
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct feed *f = feed_of(call);

	if (!f->refused)
		broke(f, reason == UPSTREAM_OK ? METRIC_REASON_CLOSED : reason,
		    reason == UPSTREAM_OK ? "it ended its stream" : detail);
	fanout_deliver(&f->fanout);
}

static const struct upstream_call_ops feed_ops = {on_head, on_body, on_read_end, on_end};

static void stream_open(struct feed *f)
{
	struct upstream *u = f->upstream;
	struct buffer head = f->call.head;

	sse_data_release(&f->events);
	buffer_consume(&head, buffer_length(&head));
	f->events = (struct sse_data){0};
	int error =
	    relay_build_head(&head, "GET", u, &f->record, (struct span){0}, (struct span){0}, NULL);
	f->call = (struct upstream_call){.upstream = u,
	    .ops = &feed_ops,
	    .head = head,
	    .repeatable = true,
	    .stream = true,
	    .action = UPSTREAM_LISTEN,
	    .session = f->record.id,
	    .child_name = f->record.upstream_session};
	if (error)
		try_again(f);
	else
		upstream_call_start(&f->call);
}

/* --- listeners --- */

static bool has_none(const struct feed *f)
{
	return TAILQ_EMPTY(&f->waiting) && TAILQ_EMPTY(&f->fanout.hearers);
}

static struct feed *feed_get(struct upstream *u)
{
	struct worker *w = u->worker;
	struct feed *f;

	LIST_FOREACH (f, &w->feeds, link) {
		if (f->upstream == u)
			return f;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->upstream = u;
	f->call.upstream = u;
	fanout_init(&f->fanout, &f->call, give);
	TAILQ_INIT(&f->waiting);
	TAILQ_INIT(&f->subscriptions);
	LIST_INSERT_HEAD(&w->feeds, f, link);
	return f;
}

/* False when the filter is none. */
static bool take_filter(struct subscriber *l, const struct envelope *e)
{
	struct span filter, value, one;

	if (!e->params.p || !raw_object(e->params, "notifications", &filter))
		return false;
	for (int i = 0; i < FEED_LISTS; i++)
		l->wants[i] =
		    raw_member(filter, lists[i].wanted, &value) && span_equal(value, SPAN("true"));
	if (!raw_member(filter, "resourceSubscriptions", &value))
		return true;
	struct span rest = value;
	while (raw_next(&rest, &one)) {
		if (one.p[0] != '"')
			return false;
	}
	if (value.p[0] != '[' || buffer_append(&l->uris, value.p, value.n, EVENT_MAX))
		return false;
	buffer_keep(&l->uris, buffer_span(&l->uris));
	return true;
}

void feed_listen(struct exchange *x)
{
	const struct envelope *e = exchange_message(x);
	struct subscriber *l = calloc(1, sizeof(*l));
	struct feed *f = l ? feed_get(x->route->upstream) : NULL;

	if (!f) {
		free(l);
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	bool first = has_none(f);
	l->feed = f;
	l->exchange = x;
	x->subscriber = l;
	TAILQ_INSERT_TAIL(&f->waiting, l, link);
	if (!e || !take_filter(l, e)) {
		exchange_refuse(x, REPLY_BAD_FILTER, NULL, (struct span){0});
		return;
	}
	subscriptions_add(f, buffer_span(&l->uris));
	if (first)
		session_open(f);
	else
		feed_settle(f);
}

void feed_leave(struct exchange *x)
{
	struct subscriber *l = x->subscriber;
	struct feed *f = l->feed;

	if (l->hearer.fanout) {
		fanout_leave(&l->hearer);
	} else {
		if (f->next == l)
			f->next = TAILQ_NEXT(l, link);
		TAILQ_REMOVE(&f->waiting, l, link);
	}
	subscriptions_drop(f, buffer_span(&l->uris));
	if (has_none(f))
		feed_close(f);
}

void feed_free(struct exchange *x)
{
	if (!x->subscriber)
		return;
	buffer_release(&x->subscriber->uris);
	free(x->subscriber);
}

void feed_drain(struct exchange *x)
{
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = EVENT_MAX};
	struct conn *conn = x->conn;
	char retry[RELAY_RETRY_TEXT];

	if (!sse_at_boundary(&x->sse))
		return;
	compose_raw(&c, relay_retry(retry));
	compose_raw(&c, SPAN("event: message\ndata: "));
	to_modern_listen_end(&c, x->id);
	compose_raw(&c, SPAN("\n\n"));
	if (!c.error)
		relay_piece(x, buffer_span(&out));
	if (conn->exchange == x)
		relay_over(x, UPSTREAM_OK, "");
	buffer_release(&out);
}

void feed_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.feed_again, w->loop, again_after, on_again);
	timeout_queue_init(&w->timeouts.feed_more, w->loop, more_after, on_more);
}
