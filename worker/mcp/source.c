/* source: see source.h. */
#include "worker/mcp/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "common/raw.h"
#include "worker/mcp/cache.h"
#include "worker/mcp/catalogue.h"
#include "worker/mcp/errand.h"
#include "worker/mcp/fields.h"
#include "worker/mcp/virtual.h"

enum { KEY_MAX = 2 * SESSION_STATE_MAX };

static const double again_after = 1; /* seconds, after an end or failure */

struct source {
	union {
		UT_hash_handle hh;       /* in its upstream's table */
		LIST_ENTRY(source) link; /* closed: in the worker's closed_sources */
	};
	struct upstream *upstream;
	struct fanout fanout; /* of whole events */
	struct upstream_call call;
	struct buffer body;
	struct sse_data events;
	struct era_wait era;
	struct timeout again;
	bool acknowledged;
	bool gap;   /* something may have been missed */
	char key[]; /* what it is for, as a raw array: capabilities, clientInfo or null, URIs */
};

static void ask(struct source *s);

/* --- life --- */

static int key_of(struct span state, struct buffer *out)
{
	struct client_identity who = virtual_identity(state);
	struct compose c = {.out = out, .bound = KEY_MAX};

	compose_open(&c, '[');
	compose_element(&c, who.capabilities);
	compose_element(&c, who.info.n > 0 ? who.info : SPAN("null"));
	compose_element(&c, virtual_uris(state));
	compose_close(&c, ']');
	return c.error;
}

static struct source *source_open(struct upstream *u, struct span key)
{
	struct source *s = calloc(1, offsetof(struct source, key) + key.n);

	if (!s)
		return NULL;
	s->upstream = u;
	s->call.upstream = u;
	fanout_init(&s->fanout, &s->call, listen_hears);
	memcpy(s->key, key.p, key.n);
	HASH_ADD_KEYPTR(hh, u->sources, s->key, key.n, s);
	return s;
}

static void source_close(struct source *s)
{
	struct worker *w = s->upstream->worker;

	era_cancel(&s->era);
	upstream_call_cancel(&s->call);
	timeout_disarm(&w->timeouts.source_again, &s->again);
	fanout_close(&s->fanout);
	HASH_DEL(s->upstream->sources, s);
	LIST_INSERT_HEAD(&w->closed_sources, s, link);
}

void sources_free_closed(struct worker *w)
{
	struct source *s;

	while ((s = LIST_FIRST(&w->closed_sources))) {
		LIST_REMOVE(s, link);
		fanout_free(&s->fanout);
		buffer_release(&s->call.head);
		buffer_release(&s->body);
		sse_data_release(&s->events);
		free(s);
	}
}

/* --- towards those who hear --- */

static struct compose event_begin(struct buffer *out)
{
	struct compose c = {.out = out, .bound = 2 * ERRAND_MESSAGE_MAX};

	compose_raw(&c, SPAN("event: message\ndata: "));
	return c;
}

/* False when there is no room for it: then what stood before it is gone, too. */
static bool event_end(struct compose *c)
{
	compose_raw(c, SPAN("\n\n"));
	if (c->error)
		buffer_release(c->out);
	return !c->error;
}

/* All that the upstream would have said had changed. */
static bool put_gap(const struct source *s, struct buffer *out)
{
	static const char *const lists[] = {"tools", "prompts", "resources"};
	struct span discover = buffer_span(&s->upstream->discover), capabilities, one, changed;

	if (!raw_object(discover, "capabilities", &capabilities))
		return true;
	for (int i = 0; i < 3; i++) {
		if (!raw_object(capabilities, lists[i], &one) ||
		    !raw_member(one, "listChanged", &changed) || !span_equal(changed, SPAN("true")))
			continue;
		struct compose c = event_begin(out);
		translate_list_changed(&c, lists[i]);
		if (!event_end(&c))
			return false;
	}
	return true;
}

/* --- towards the upstream --- */

static void ask_later(struct source *s)
{
	upstream_call_cancel(&s->call);
	timeout_arm(&s->upstream->worker->timeouts.source_again, &s->again);
}

/* Until it has answered again, changes go unseen. */
static void lose(struct source *s)
{
	struct hearer *h;

	s->gap |= s->acknowledged;
	s->acknowledged = false;
	ask_later(s);
	TAILQ_FOREACH (h, &s->fanout.hearers, link)
		listen_lost(h);
}

static void on_again(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	ask(container_of(timeout, struct source, again));
}

static void on_era(struct era_wait *wait, enum era era, int reason, const char *detail)
{
	struct source *s = container_of(wait, struct source, era);

	(void)reason;
	(void)detail;
	if (era == ERA_MODERN && buffer_length(&s->upstream->discover) > 0)
		ask(s);
	else
		ask_later(s);
}

static int build(struct source *s, const struct mcp_method *method)
{
	struct upstream *u = s->upstream;
	struct span rest = {s->key, s->hh.keylen}, uris = {0};
	struct client_identity who = {0}; /* log messages never come this way: no level */
	struct compose c = {.out = &s->body, .bound = 8 * SESSION_STATE_MAX};
	struct buffer fields = {0};
	char id[24];

	raw_next(&rest, &who.capabilities);
	if (raw_next(&rest, &who.info) && span_equal(who.info, SPAN("null")))
		who.info = (struct span){0};
	raw_next(&rest, &uris);
	buffer_consume(&s->body, buffer_length(&s->body));
	buffer_consume(&s->call.head, buffer_length(&s->call.head));
	snprintf(id, sizeof(id), "%llu", (unsigned long long)++u->worker->last_errand);
	to_modern_listen(&c, span_of(id), &who, buffer_span(&u->discover), uris);
	struct span body = buffer_span(&s->body);
	if (!c.error)
		c.error = fields_put(&fields, method, NULL, NULL);
	if (!c.error)
		c.error = relay_build_head(
		    &s->call.head, "POST", u, NULL, (struct span){0}, buffer_span(&fields), &body);
	buffer_release(&fields);
	return c.error;
}

/* --- from the upstream --- */

/* False when there is no room for what it says. */
static bool take(struct source *s, const struct envelope *e)
{
	if (span_equal(e->method, SPAN("notifications/subscriptions/acknowledged"))) {
		bool told = !s->gap || put_gap(s, &s->fanout.fresh);
		s->acknowledged = true;
		s->gap = !told;
		return told;
	}
	if (span_equal(e->method, SPAN("notifications/tools/list_changed")))
		catalogue_forget(s->upstream);
	cache_hear(s->upstream->worker->cache, s->upstream, e);
	struct buffer *fresh = &s->fanout.fresh;
	struct compose c = event_begin(fresh);
	size_t start = buffer_length(fresh);
	to_legacy_notice(&c, e);
	if (!c.error)
		sse_join_lines(fresh->data + fresh->head + start, buffer_length(fresh) - start);
	s->gap |= !event_end(&c);
	return !c.error;
}

static int on_event(struct sse_data *events, struct span data)
{
	struct source *s = container_of(events, struct source, events);
	struct worker *w = s->upstream->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	/* What is no message is left out, as a client would. */
	if (envelope_scan(data, w->config->limits.json_depth, e, &fault))
		return 0;
	if (e->kind == ENVELOPE_REQUEST || (e->kind == ENVELOPE_NOTIFICATION && take(s, e)))
		return 0;
	lose(s);
	return 1;
}

static struct source *source_of(struct upstream_call *call)
{
	return container_of(call, struct source, call);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	const struct http_header *type = head_find(head, HTTP_CONTENT_TYPE);
	struct source *s = source_of(call);

	/* Whatever else it says, and be it why: it does not serve it now. */
	if (head->status != 200 || !type ||
	    !header_has_token(type->value, SPAN("text/event-stream")))
		lose(s);
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct source *s = source_of(call);

	if (sse_data_feed(&s->events, p, n, ERRAND_MESSAGE_MAX, on_event) < 0)
		lose(s);
	/* Nobody says that the wake-up ends when the call is over. */
	if (s->call.state == CALL_OVER)
		fanout_deliver(&s->fanout);
}

/* A stream may be quiet for hours: keep neither what was sent nor room for what may never come. */
static void make_small(struct source *s)
{
	struct buffer *const all[] = {&s->fanout.fresh, &s->events.line, &s->events.data};

	if (upstream_call_drop_request(&s->call))
		buffer_release(&s->body);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (buffer_length(all[i]) == 0)
			buffer_release(all[i]);
	}
}

static void on_read_end(struct upstream_call *call)
{
	struct source *s = source_of(call);

	fanout_deliver(&s->fanout);
	if (!s->fanout.closed)
		make_small(s);
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct source *s = source_of(call);

	(void)reason;
	(void)detail;
	lose(s);
	fanout_deliver(&s->fanout);
}

static const struct upstream_call_ops source_ops = {
    .head = on_head,
    .body = on_body,
    .read_end = on_read_end,
    .end = on_end,
};

static void ask(struct source *s)
{
	const struct mcp_method *method = mcp_method_find(SPAN("subscriptions/listen"));
	struct upstream *u = s->upstream;

	/* What it announces this worker may not know yet. */
	if (buffer_length(&u->discover) == 0) {
		era_cancel(&s->era);
		s->era.done = on_era;
		if (!era_ask(u, &s->era))
			ask_later(s);
		return;
	}
	if (build(s, method)) {
		ask_later(s);
		return;
	}
	sse_data_release(&s->events);
	s->events = (struct sse_data){0};
	s->call = (struct upstream_call){.upstream = u,
	    .ops = &source_ops,
	    .head = s->call.head,
	    .body = buffer_span(&s->body),
	    .repeatable = method->repeatable,
	    .stream = method->stream,
	    .action = UPSTREAM_ASK,
	    .child_name = "",
	    .single = true};
	upstream_call_start(&s->call);
}

/* --- who hears --- */

static struct source *source_heard_by(const struct hearer *h)
{
	return h->fanout ? container_of(h->fanout, struct source, fanout) : NULL;
}

void source_leave(struct hearer *h)
{
	struct source *s = source_heard_by(h);

	if (!s)
		return;
	fanout_leave(h);
	if (TAILQ_EMPTY(&s->fanout.hearers))
		source_close(s);
}

/* It heard another one before, up to now. */
static void make_up(struct hearer *h)
{
	struct source *s = source_heard_by(h);
	struct buffer events = {0};

	if (!s->acknowledged) {
		s->gap = true;
		return;
	}
	if (put_gap(s, &events) && buffer_length(&events) > 0)
		listen_hears(h, buffer_span(&events));
	buffer_release(&events);
}

int source_hear(struct hearer *h, struct upstream *u, struct span state)
{
	struct source *s, *old = source_heard_by(h);
	struct buffer key = {0};
	bool is_new;

	if (key_of(state, &key)) {
		buffer_release(&key);
		return -ENOMEM;
	}
	struct span k = buffer_span(&key);
	HASH_FIND(hh, u->sources, k.p, k.n, s);
	is_new = !s;
	if (is_new)
		s = source_open(u, k);
	buffer_release(&key);
	if (!s)
		return -ENOMEM;
	if (s == old)
		return 0;
	bool missed = old && (old->acknowledged || old->gap);
	source_leave(h);
	fanout_join(&s->fanout, h);
	if (is_new)
		ask(s);
	if (missed)
		make_up(h);
	return 0;
}

void source_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.source_again, w->loop, again_after, on_again);
}
