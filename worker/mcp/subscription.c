/* subscription: see subscription.h. */
#include "worker/mcp/subscription.h"

#include <stdlib.h>

#include "common/compose.h"
#include "common/raw.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/exchange.h"

enum { URI_MAX = 65536, ANSWER_MAX = 65536 };

enum subscription_state {
	SUBSCRIPTION_NEW,
	SUBSCRIPTION_ASKED,
	SUBSCRIPTION_KEPT,
	SUBSCRIPTION_REFUSED
};

struct subscription {
	TAILQ_ENTRY(subscription) link;
	struct feed *feed;
	struct buffer uri; /* raw JSON string */
	unsigned wanted;   /* by so many listeners */
	enum subscription_state state;
	struct upstream_call call;
	struct buffer body, answer;
	struct sse_data events;
	bool sse, kept;
};

static struct subscription *find(const struct feed *f, struct span uri)
{
	struct subscription *s;

	TAILQ_FOREACH (s, &f->subscriptions, link) {
		if (span_equal(buffer_span(&s->uri), uri))
			return s;
	}
	return NULL;
}

static void subscription_free(struct subscription *s)
{
	TAILQ_REMOVE(&s->feed->subscriptions, s, link);
	buffer_release(&s->uri);
	buffer_release(&s->body);
	buffer_release(&s->answer);
	buffer_release(&s->call.head);
	sse_data_release(&s->events);
	free(s);
}

static void put_request(struct compose *c, const struct subscription *s, const char *method)
{
	compose_open(c, '{');
	compose_member(c, "jsonrpc", SPAN("\"2.0\""));
	compose_integer(c, "id", (long long)++s->feed->upstream->worker->last_errand);
	compose_text(c, "method", span_of(method));
	compose_key(c, "params");
	compose_open(c, '{');
	compose_member(c, "uri", buffer_span(&s->uri));
	compose_close(c, '}');
	compose_close(c, '}');
}

/* --- the upstream's answer --- */

static struct subscription *subscription_of(struct upstream_call *call)
{
	return container_of(call, struct subscription, call);
}

static int judge(struct subscription *s, struct span message)
{
	struct worker *w = s->feed->upstream->worker;
	struct envelope_fault fault;

	if (envelope_scan(message, w->config->limits.json_depth, &w->envelope, &fault))
		return 0;
	s->kept |= w->envelope.kind == ENVELOPE_RESULT;
	return 0;
}

static int on_event(struct sse_data *events, struct span data)
{
	return judge(container_of(events, struct subscription, events), data);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct subscription *s = subscription_of(call);
	const struct http_header *type = head_find(head, SPAN("content-type"), NULL);

	s->sse = type && header_has_token(type->value, SPAN("text/event-stream"));
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct subscription *s = subscription_of(call);

	/* What is too long is no answer to this. */
	if (s->sse)
		s->kept &= sse_data_feed(&s->events, p, n, ANSWER_MAX, on_event) == 0;
	else
		s->kept &= buffer_append(&s->answer, p, n, ANSWER_MAX) == 0;
}

static void on_read_end(struct upstream_call *call)
{
	(void)call;
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct subscription *s = subscription_of(call);

	(void)detail;
	if (reason == UPSTREAM_OK && !s->sse)
		judge(s, buffer_span(&s->answer));
	s->state = reason == UPSTREAM_OK && s->kept ? SUBSCRIPTION_KEPT : SUBSCRIPTION_REFUSED;
	feed_subscriptions_changed(s->feed);
}

static const struct upstream_call_ops subscription_ops = {on_head, on_body, on_read_end, on_end};

/* --- asking --- */

static void ask(struct subscription *s)
{
	struct feed *f = s->feed;
	struct upstream *u = f->upstream;
	struct compose c = {.out = &s->body, .bound = 2 * URI_MAX};
	struct buffer head = s->call.head;

	if (!f->subscribes) {
		s->state = SUBSCRIPTION_REFUSED;
		return;
	}
	buffer_consume(&s->body, buffer_length(&s->body));
	buffer_consume(&s->answer, buffer_length(&s->answer));
	buffer_consume(&head, buffer_length(&head));
	s->kept = false;
	put_request(&c, s, "resources/subscribe");
	struct span body = buffer_span(&s->body);
	if (!c.error && u->config->kind == CONFIG_HTTP)
		c.error = relay_build_head(
		    &head, "POST", u, &f->record, (struct span){0}, (struct span){0}, &body);
	s->call = (struct upstream_call){.upstream = u,
	    .ops = &subscription_ops,
	    .head = head,
	    .body = body,
	    .repeatable = true,
	    .action = UPSTREAM_POST,
	    .session = f->record.id,
	    .child_name = f->record.upstream_session,
	    .single = true};
	s->state = c.error ? SUBSCRIPTION_REFUSED : SUBSCRIPTION_ASKED;
	if (!c.error)
		upstream_call_start(&s->call);
}

void subscriptions_ask_all(struct feed *f)
{
	struct subscription *s;

	/* One that fails at once may take others along. */
	do {
		TAILQ_FOREACH (s, &f->subscriptions, link) {
			if (s->state == SUBSCRIPTION_NEW)
				break;
		}
		if (s)
			ask(s);
	} while (s && !TAILQ_EMPTY(&f->subscribers));
}

static struct subscription *create(struct feed *f, struct span uri)
{
	struct subscription *s = calloc(1, sizeof(*s));

	if (!s || buffer_append(&s->uri, uri.p, uri.n, URI_MAX)) {
		free(s);
		return NULL;
	}
	s->feed = f;
	TAILQ_INSERT_TAIL(&f->subscriptions, s, link);
	return s;
}

void subscriptions_add(struct feed *f, struct span uris)
{
	struct span uri;

	while (raw_next(&uris, &uri)) {
		struct subscription *s = find(f, uri);
		if (!s)
			s = create(f, uri);
		if (s)
			s->wanted++;
	}
	if (f->open)
		subscriptions_ask_all(f);
}

void subscriptions_drop(struct feed *f, struct span uris)
{
	struct span uri;

	while (raw_next(&uris, &uri)) {
		struct subscription *s = find(f, uri);
		struct buffer body = {0};
		struct compose c = {.out = &body, .bound = 2 * URI_MAX};
		if (!s || --s->wanted > 0)
			continue;
		put_request(&c, s, "resources/unsubscribe");
		if (s->state == SUBSCRIPTION_KEPT && !c.error)
			aside_post(f->upstream, &f->record, buffer_span(&body));
		buffer_release(&body);
		upstream_call_cancel(&s->call);
		subscription_free(s);
	}
}

bool subscriptions_settled(const struct feed *f, struct span uris)
{
	struct span uri;

	while (raw_next(&uris, &uri)) {
		const struct subscription *s = find(f, uri);
		if (s && s->state < SUBSCRIPTION_KEPT)
			return false;
	}
	return true;
}

bool subscription_is_kept(const struct feed *f, struct span uri)
{
	const struct subscription *s = find(f, uri);

	return s && s->state == SUBSCRIPTION_KEPT;
}

void subscriptions_forget(struct feed *f)
{
	struct subscription *s;

	TAILQ_FOREACH (s, &f->subscriptions, link) {
		upstream_call_cancel(&s->call);
		s->state = SUBSCRIPTION_NEW;
	}
}

void subscriptions_close(struct feed *f)
{
	struct subscription *s;

	TAILQ_FOREACH (s, &f->subscriptions, link)
		upstream_call_cancel(&s->call);
}

void subscriptions_free(struct feed *f)
{
	while (!TAILQ_EMPTY(&f->subscriptions))
		subscription_free(TAILQ_FIRST(&f->subscriptions));
}
