/* subscription: see subscription.h. */
#include "worker/mcp/subscription.h"

#include <stdlib.h>

#include "common/compose.h"
#include "common/raw.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/inquiry.h"

enum { URI_MAX = 65536 };

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
	struct inquiry inquiry;
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
	inquiry_release(&s->inquiry);
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

static void on_answer(struct inquiry *q, const struct envelope *e, int reason, const char *detail)
{
	struct subscription *s = container_of(q, struct subscription, inquiry);

	(void)reason;
	(void)detail;
	s->state = e && e->kind == ENVELOPE_RESULT ? SUBSCRIPTION_KEPT : SUBSCRIPTION_REFUSED;
	feed_subscriptions_changed(s->feed);
}

/* --- asking --- */

static void ask(struct subscription *s)
{
	struct feed *f = s->feed;
	struct inquiry *q = &s->inquiry;
	struct compose c = {.out = &q->body, .bound = 2 * URI_MAX};
	const struct inquiry_target target = {
	    .upstream = f->upstream, .record = &f->record, .session = f->record.id};

	s->state = SUBSCRIPTION_REFUSED;
	if (!f->subscribes)
		return;
	buffer_consume(&q->body, buffer_length(&q->body));
	put_request(&c, s, "resources/subscribe");
	q->done = on_answer;
	if (c.error)
		return;
	s->state = SUBSCRIPTION_ASKED;
	if (inquiry_send(q, &target))
		s->state = SUBSCRIPTION_REFUSED;
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
	} while (s && !f->fanout.closed);
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
		inquiry_cancel(&s->inquiry);
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
		inquiry_cancel(&s->inquiry);
		s->state = SUBSCRIPTION_NEW;
	}
}

void subscriptions_close(struct feed *f)
{
	struct subscription *s;

	TAILQ_FOREACH (s, &f->subscriptions, link)
		inquiry_cancel(&s->inquiry);
}

void subscriptions_free(struct feed *f)
{
	while (!TAILQ_EMPTY(&f->subscriptions))
		subscription_free(TAILQ_FIRST(&f->subscriptions));
}
