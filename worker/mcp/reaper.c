/* reaper: see reaper.h. */
#include "worker/mcp/reaper.h"

#include <stdlib.h>

#include "worker/mcp/exchange.h"

enum { REAPER_MAX = 1000 };

struct reap {
	LIST_ENTRY(reap) link; /* worker's reaps */
	struct upstream_call call;
	struct worker *worker;
};

static void reap_free(struct reap *r)
{
	LIST_REMOVE(r, link);
	r->worker->reap_count--;
	buffer_release(&r->call.head);
	free(r);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	(void)call;
	(void)head;
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	(void)call;
	(void)p;
	(void)n;
}

static void on_read_end(struct upstream_call *call)
{
	(void)call;
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct reap *r = container_of(call, struct reap, call);
	struct worker *w = r->worker;

	if (reason != UPSTREAM_OK)
		LOG(w->log, LOG_LEVEL_INFO, "upstream session could not be ended",
		    LOG_STR("upstream", call->upstream->config->name), LOG_STR("reason", detail));
	/* The call does not look back after `end`. */
	reap_free(r);
	worker_check_done(w);
}

static const struct upstream_call_ops reap_ops = {on_head, on_body, on_read_end, on_end};

static struct upstream *find_upstream(struct worker *w, const char *name)
{
	for (size_t i = 0; i < w->config->upstream_count; i++) {
		if (strcmp(w->upstreams[i].config->name, name) == 0)
			return &w->upstreams[i];
	}
	return NULL;
}

void reaper_end_upstream(struct worker *w, const struct session_record *record)
{
	struct upstream *u = find_upstream(w, record->upstream);
	struct reap *r;

	if (!record->upstream_session[0] || !u || w->reap_count >= REAPER_MAX)
		return;
	r = calloc(1, sizeof(*r));
	if (!r)
		return;
	r->worker = w;
	r->call.upstream = u;
	r->call.ops = &reap_ops;
	r->call.repeatable = true;
	r->call.action = UPSTREAM_END;
	r->call.session = record->id;
	r->call.child_name = record->upstream_session;
	if (u->config->kind == CONFIG_HTTP && relay_build_head(&r->call.head, "DELETE", u, record,
						  (struct span){0}, (struct span){0}, NULL)) {
		buffer_release(&r->call.head);
		free(r);
		return;
	}
	LIST_INSERT_HEAD(&w->reaps, r, link);
	w->reap_count++;
	upstream_call_start(&r->call);
}

void reaper_close(struct worker *w)
{
	while (!LIST_EMPTY(&w->reaps)) {
		struct reap *r = LIST_FIRST(&w->reaps);
		upstream_call_cancel(&r->call);
		reap_free(r);
	}
}
