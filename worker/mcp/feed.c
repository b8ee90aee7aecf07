/* feed: see feed.h. */
#include "worker/mcp/feed.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/raw.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/catalogue.h"
#include "worker/mcp/subscription.h"
#include "worker/mcp/translate/translate.h"
#include "worker/route.h"

enum { EVENT_MAX = 4 * 1024 * 1024 };

static const double again_after = 1; /* seconds */

/* What can be listened to beside resources. */
static const struct {
	const char *list, *wanted;
	struct span method;
} lists[FEED_LISTS] = {
    {"tools", "toolsListChanged", {"notifications/tools/list_changed", 32}},
    {"prompts", "promptsListChanged", {"notifications/prompts/list_changed", 34}},
    {"resources", "resourcesListChanged", {"notifications/resources/list_changed", 36}},
};

struct subscriber {
	TAILQ_ENTRY(subscriber) link;
	struct feed *feed;
	struct exchange *exchange;
	bool wants[FEED_LISTS];
	struct buffer uris; /* raw array */
	bool acknowledged;
};

static void stream_open(struct feed *f);
static void feed_settle(struct feed *f);

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
	subscriptions_close(f);
	if (f->open) {
		aside_end_session(w, &f->record);
		sessions_end(w->sessions, &f->record.id, METRIC_END_CLIENT);
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

static void fail_all(struct feed *f, int reason, const char *detail)
{
	struct subscriber *l, *next;
	char text[128];

	snprintf(text, sizeof(text), "%s", detail);
	TAILQ_FOREACH_SAFE (l, &f->subscribers, link, next) {
		if (!l->exchange->answering)
			exchange_upstream_failed(l->exchange, reason, text);
	}
}

static void try_again(struct feed *f)
{
	f->gap = true;
	f->streaming = false;
	upstream_call_cancel(&f->call);
	timeout_arm(&f->upstream->worker->timeouts.feed_again, &f->again);
}

/* Who waits is told; for the others it is opened again. */
static void broke(struct feed *f, int reason, const char *detail)
{
	fail_all(f, reason, detail);
	if (!TAILQ_EMPTY(&f->subscribers))
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
static void give(struct subscriber *l, struct span method, struct span params)
{
	static const char *const meta_only[] = {"_meta", NULL};
	struct exchange *x = l->exchange;
	struct conn *conn = x->conn;
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = EVENT_MAX};

	compose_raw(&c, SPAN("event: message\ndata: "));
	compose_open(&c, '{');
	compose_member(&c, "jsonrpc", SPAN("\"2.0\""));
	compose_text(&c, "method", method);
	compose_key(&c, "params");
	compose_open(&c, '{');
	compose_key(&c, "_meta");
	compose_open(&c, '{');
	compose_member(&c, "io.modelcontextprotocol/subscriptionId", x->id);
	compose_close(&c, '}');
	compose_members(&c, params, meta_only);
	compose_close(&c, '}');
	compose_close(&c, '}');
	compose_raw(&c, SPAN("\n\n"));
	if (c.error)
		conn_break(conn);
	else
		relay_piece(x, buffer_span(&out));
	if (conn->exchange == x)
		conn_flush(conn);
	/* A listener that does not read is not waited for: others would have to wait, too. */
	if (conn->exchange == x && conn_congested(conn))
		conn_break(conn);
	buffer_release(&out);
}

static void acknowledge(struct subscriber *l)
{
	struct feed *f = l->feed;
	struct exchange *x = l->exchange;
	struct conn *conn = x->conn;
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = EVENT_MAX};
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
	l->acknowledged = true;
	x->session = f->record.id;
	timeout_arm(&x->worker->timeouts.session_touch, &x->touch);
	if (c.error) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
	} else {
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
		if (conn->exchange == x)
			give(
			    l, SPAN("notifications/subscriptions/acknowledged"), buffer_span(&out));
	}
	buffer_release(&out);
}

/* What each listener waits for may be known now. */
static void feed_settle(struct feed *f)
{
	struct subscriber *l, *next;

	if (!f->streaming && !f->refused)
		return;
	TAILQ_FOREACH_SAFE (l, &f->subscribers, link, next) {
		if (!l->acknowledged && subscriptions_settled(f, buffer_span(&l->uris)))
			acknowledge(l);
	}
}

void feed_subscriptions_changed(struct feed *f)
{
	feed_settle(f);
}

static void tell_of_gap(struct feed *f)
{
	struct subscriber *l, *next;

	f->gap = false;
	TAILQ_FOREACH_SAFE (l, &f->subscribers, link, next) {
		struct conn *conn = l->exchange->conn;
		struct exchange *x = l->exchange;
		for (int i = 0; i < FEED_LISTS && conn->exchange == x; i++) {
			if (l->acknowledged && l->wants[i])
				give(l, lists[i].method, SPAN("{}"));
		}
	}
}

/* --- from the upstream --- */

static bool hears(const struct subscriber *l, const struct envelope *e)
{
	struct span rest = buffer_span(&l->uris), uri, changed;

	if (!l->acknowledged)
		return false;
	for (int i = 0; i < FEED_LISTS; i++) {
		if (span_equal(lists[i].method, e->method))
			return l->wants[i];
	}
	if (!span_equal(e->method, SPAN("notifications/resources/updated")) ||
	    !raw_member(e->params, "uri", &changed))
		return false;
	while (raw_next(&rest, &uri)) {
		if (span_equal(uri, changed))
			return true;
	}
	return false;
}

static void answer_question(struct feed *f, const struct envelope *e)
{
	struct buffer body = {0};
	struct compose c = {.out = &body, .bound = EVENT_MAX};

	to_legacy_refusal(&c, e);
	if (!c.error)
		aside_post(f->upstream, &f->record, buffer_span(&body));
	buffer_release(&body);
}

static int on_event(struct sse_data *events, struct span data)
{
	struct feed *f = container_of(events, struct feed, events);
	struct worker *w = f->upstream->worker;
	struct envelope e; /* the worker's is used by what is given */
	struct envelope_fault fault;
	struct subscriber *l, *next;

	if (envelope_scan(data, w->config->limits.json_depth, &e, &fault))
		return 0;
	if (e.kind == ENVELOPE_REQUEST)
		answer_question(f, &e);
	if (e.kind != ENVELOPE_NOTIFICATION)
		return 0;
	if (span_equal(e.method, lists[0].method))
		catalogue_forget(f->upstream);
	TAILQ_FOREACH_SAFE (l, &f->subscribers, link, next) {
		if (hears(l, &e))
			give(l, e.method, e.params.p ? e.params : SPAN("{}"));
	}
	return TAILQ_EMPTY(&f->subscribers);
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
		sessions_end(f->upstream->worker->sessions, &f->record.id, METRIC_END_UPSTREAM);
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

	if (f->streaming && sse_data_feed(&f->events, p, n, EVENT_MAX, on_event) < 0)
		try_again(f);
}

static void on_read_end(struct upstream_call *call)
{
	(void)call;
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct feed *f = feed_of(call);

	if (!f->refused)
		broke(f, reason == UPSTREAM_OK ? METRIC_REASON_CLOSED : reason,
		    reason == UPSTREAM_OK ? "it ended its stream" : detail);
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
	TAILQ_INIT(&f->subscribers);
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
	bool first = TAILQ_EMPTY(&f->subscribers);
	l->feed = f;
	l->exchange = x;
	x->subscriber = l;
	TAILQ_INSERT_TAIL(&f->subscribers, l, link);
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

	TAILQ_REMOVE(&f->subscribers, l, link);
	subscriptions_drop(f, buffer_span(&l->uris));
	if (TAILQ_EMPTY(&f->subscribers))
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
}
