/* catalogue: see catalogue.h. */
#include "worker/mcp/catalogue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/escape.h"
#include "common/raw.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/inquiry.h"
#include "worker/mcp/liaison.h"
#include "worker/mcp/fields.h"

enum { PAGES_MAX = 100, CURSOR_MAX = 65536 };

static const double old_after = 60; /* seconds */

/* A tool with annotations; the text of its definition backs them. */
struct entry {
	UT_hash_handle hh;
	struct buffer name; /* without escapes */
	struct buffer text;
	struct annotations annotations;
};

struct catalogue {
	struct upstream *upstream;
	enum era era;
	struct entry *entries, *next; /* in use; being read */
	double since;                 /* clock_coarse() when it was read; 0: never */
	bool reading, stale;
	unsigned pages;
	struct liaison_wait session;
	struct session_call lookup;
	struct session_record record; /* of a legacy upstream, without state */
	struct inquiry inquiry;
	struct buffer cursor;
	struct catalogue_waits waits;
};

static void read_page(struct catalogue *c);

/* --- what is known --- */

static void entries_free(struct entry **entries)
{
	struct entry *e, *next;

	HASH_ITER (hh, *entries, e, next) {
		HASH_DEL(*entries, e);
		buffer_release(&e->name);
		buffer_release(&e->text);
		free(e);
	}
}

const struct annotations *catalogue_find(const struct upstream *u, struct span tool)
{
	struct entry *e = NULL;

	if (u->catalogue && tool.n > 0)
		HASH_FIND(hh, u->catalogue->entries, tool.p, (unsigned)tool.n, e);
	return e ? &e->annotations : NULL;
}

static void take_tool(struct catalogue *c, struct span tool)
{
	struct annotations found;
	struct span name;
	struct entry *e, *other;
	char plain[1024];

	if (!raw_member(tool, "name", &name) || name.n < 3 || name.p[0] != '"' ||
	    !annotations_of(tool, &found) || found.count == 0)
		return;
	long n = escape_undo((struct span){name.p + 1, name.n - 2}, plain, sizeof(plain));
	e = n > 0 ? calloc(1, sizeof(*e)) : NULL;
	if (!e)
		return;
	if (buffer_append(&e->name, plain, (size_t)n, sizeof(plain)) ||
	    buffer_append(&e->text, tool.p, tool.n, INQUIRY_ANSWER_MAX) ||
	    !annotations_of(buffer_span(&e->text), &e->annotations)) {
		buffer_release(&e->name);
		buffer_release(&e->text);
		free(e);
		return;
	}
	HASH_FIND(hh, c->next, e->name.data, (unsigned)n, other);
	if (other) {
		HASH_DEL(c->next, other);
		entries_free(&other);
	}
	HASH_ADD_KEYPTR(hh, c->next, e->name.data, (unsigned)n, e);
}

/* --- reading --- */

static void finish(struct catalogue *c, bool good)
{
	struct catalogue_waits waits = TAILQ_HEAD_INITIALIZER(waits);
	struct catalogue_wait *wait;

	c->reading = false;
	c->stale = false;
	c->since = clock_coarse();
	if (good) {
		struct entry *old = c->entries;
		c->entries = c->next;
		c->next = old;
	}
	entries_free(&c->next);
	while ((wait = TAILQ_FIRST(&c->waits))) {
		TAILQ_REMOVE(&c->waits, wait, link);
		TAILQ_INSERT_TAIL(&waits, wait, link);
		wait->list = &waits;
	}
	while ((wait = TAILQ_FIRST(&waits))) {
		catalogue_cancel(wait);
		wait->done(wait);
	}
}

static void take_page(struct catalogue *c, struct span result)
{
	struct span tools = {0}, tool, cursor;

	raw_member(result, "tools", &tools);
	while (raw_next(&tools, &tool))
		take_tool(c, tool);
	buffer_consume(&c->cursor, buffer_length(&c->cursor));
	if (raw_member(result, "nextCursor", &cursor) && cursor.p[0] == '"' &&
	    buffer_append(&c->cursor, cursor.p, cursor.n, CURSOR_MAX))
		buffer_release(&c->cursor);
}

static void on_page(struct inquiry *q, const struct envelope *e, int reason, const char *detail)
{
	struct catalogue *c = container_of(q, struct catalogue, inquiry);
	bool good = e && e->kind == ENVELOPE_RESULT;

	(void)reason;
	(void)detail;
	if (good)
		take_page(c, e->result);
	if (good && buffer_length(&c->cursor) > 0 && ++c->pages < PAGES_MAX)
		read_page(c);
	else
		finish(c, good);
}

static void put_request(struct compose *out, struct catalogue *c)
{
	static const struct client_identity nobody = {.capabilities = {"{}", 2}};
	static const struct envelope list = {.method = {"tools/list", 10}};
	struct span cursor = buffer_span(&c->cursor);
	char id[24];
	int n = snprintf(
	    id, sizeof(id), "%llu", (unsigned long long)++c->upstream->worker->last_errand);
	struct buffer text = {0};
	struct compose params = {.out = &text, .bound = CURSOR_MAX + 64};
	struct envelope e = list;

	compose_open(&params, '{');
	if (cursor.n > 0)
		compose_member(&params, "cursor", cursor);
	compose_close(&params, '}');
	e.params = buffer_span(&text);
	out->error = params.error;
	if (c->era == ERA_MODERN)
		to_modern_request(out, &e, (struct span){id, (size_t)n}, &nobody, NULL);
	else
		to_legacy_request(out, &e, (struct span){id, (size_t)n});
	buffer_release(&text);
}

static void read_page(struct catalogue *c)
{
	struct inquiry *q = &c->inquiry;
	struct compose out = {.out = &q->body, .bound = 2 * CURSOR_MAX};
	struct buffer fields = {0};
	bool legacy = c->era != ERA_MODERN;
	struct inquiry_target target = {.upstream = c->upstream,
	    .action = legacy ? UPSTREAM_POST : UPSTREAM_ASK,
	    .record = legacy ? &c->record : NULL,
	    .session = c->record.id};

	buffer_consume(&q->body, buffer_length(&q->body));
	put_request(&out, c);
	if (!out.error && !legacy)
		out.error = fields_put(&fields, mcp_method_find(SPAN("tools/list")), NULL, NULL);
	target.fields = buffer_span(&fields);
	q->done = on_page;
	if (out.error || inquiry_send(q, &target))
		finish(c, false);
	buffer_release(&fields);
}

/* --- the session with a legacy upstream --- */

static void with_session(struct catalogue *c, const struct session_record *record)
{
	c->record = *record;
	c->record.state = (struct span){0};
	read_page(c);
}

static void on_opened(
    struct liaison_wait *wait, const struct session_record *record, int reason, const char *detail)
{
	struct catalogue *c = container_of(wait, struct catalogue, session);

	(void)reason;
	(void)detail;
	if (record)
		with_session(c, record);
	else
		finish(c, false);
}

static void on_found(struct session_call *call, int status, const struct session_record *record)
{
	struct catalogue *c = container_of(call, struct catalogue, lookup);
	struct liaison_want want = {c->upstream, 0, -1, 0};

	c->session.done = on_opened;
	if (status == 0)
		with_session(c, record);
	else if (status != -ENOENT || !liaison_open(&want, &c->session))
		finish(c, false);
}

static void find_session(struct catalogue *c)
{
	struct worker *w = c->upstream->worker;
	struct liaison_want want = {c->upstream, 0, -1, 0};
	struct session_id id = liaison_id(&want);
	int error = 0;

	c->lookup.done = on_found;
	const struct session_record *record = sessions_get(w->sessions, &id, &c->lookup, &error);
	if (record)
		with_session(c, record);
	else if (error)
		finish(c, false);
}

static void start(struct catalogue *c, enum era era)
{
	c->reading = true;
	c->era = era;
	c->pages = 0;
	buffer_consume(&c->cursor, buffer_length(&c->cursor));
	if (era == ERA_MODERN)
		read_page(c);
	else
		find_session(c);
}

/* --- who needs it --- */

bool catalogue_ready(struct upstream *u, enum era era, struct catalogue_wait *wait)
{
	struct catalogue *c = u->catalogue;

	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return true;
		c->upstream = u;
		TAILQ_INIT(&c->waits);
		u->catalogue = c;
	}
	bool known = c->since > 0 && !c->stale;
	if (!known) {
		wait->list = &c->waits;
		TAILQ_INSERT_TAIL(&c->waits, wait, link);
	}
	if (!c->reading && (!known || clock_coarse() - c->since > old_after))
		start(c, era);
	return known;
}

void catalogue_cancel(struct catalogue_wait *wait)
{
	if (!wait->list)
		return;
	TAILQ_REMOVE(wait->list, wait, link);
	wait->list = NULL;
}

bool catalogue_has_any(const struct upstream *u)
{
	return u->catalogue && u->catalogue->entries;
}

void catalogue_forget(struct upstream *u)
{
	if (u->catalogue)
		u->catalogue->stale = true;
}

void catalogues_close(struct worker *w)
{
	for (size_t i = 0; i < w->config->upstream_count; i++) {
		struct catalogue *c = w->upstreams[i].catalogue;
		if (!c)
			continue;
		inquiry_cancel(&c->inquiry);
		session_call_cancel(w->sessions, &c->lookup);
		liaison_cancel(&c->session);
		entries_free(&c->entries);
		entries_free(&c->next);
		inquiry_release(&c->inquiry);
		buffer_release(&c->cursor);
		free(c);
		w->upstreams[i].catalogue = NULL;
	}
}
