/* aside: see aside.h. */
#include "worker/mcp/aside.h"

#include <stdlib.h>

#include "worker/mcp/exchange.h"

enum { ASIDES_MAX = 1000 };

struct aside {
	LIST_ENTRY(aside) link; /* worker's asides */
	struct upstream_call call;
	struct worker *worker;
	struct buffer body;
};

static void aside_free(struct aside *a)
{
	LIST_REMOVE(a, link);
	a->worker->aside_count--;
	buffer_release(&a->call.head);
	buffer_release(&a->body);
	free(a);
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
	struct aside *a = container_of(call, struct aside, call);
	struct worker *w = a->worker;

	if (reason != UPSTREAM_OK)
		LOG(w->log, LOG_LEVEL_INFO, "an upstream could not be told",
		    LOG_STR("upstream", call->upstream->config->name), LOG_STR("reason", detail));
	/* The call does not look back after `end`. */
	aside_free(a);
	worker_check_done(w);
}

static const struct upstream_call_ops aside_ops = {on_head, on_body, on_read_end, on_end};

static struct upstream *find_upstream(struct worker *w, const char *name)
{
	for (size_t i = 0; i < w->config->upstream_count; i++) {
		if (strcmp(w->upstreams[i].config->name, name) == 0)
			return &w->upstreams[i];
	}
	return NULL;
}

/* NULL when there are too many or memory is short. */
static struct aside *aside_create(
    struct upstream *u, const struct session_record *record, enum upstream_action action)
{
	struct worker *w = u->worker;
	struct aside *a = w->aside_count < ASIDES_MAX ? calloc(1, sizeof(*a)) : NULL;

	if (!a)
		return NULL;
	a->worker = w;
	a->call.upstream = u;
	a->call.ops = &aside_ops;
	a->call.action = action;
	a->call.session = record->id;
	a->call.child_name = record->upstream_session;
	LIST_INSERT_HEAD(&w->asides, a, link);
	w->aside_count++;
	return a;
}

static void aside_start(
    struct aside *a, const struct session_record *record, const char *method, bool has_body)
{
	struct upstream *u = a->call.upstream;

	a->call.body = has_body ? buffer_span(&a->body) : (struct span){0};
	if (relay_build_head(&a->call.head, method, u, record, (struct span){0}, (struct span){0},
		has_body ? &a->call.body : NULL))
		aside_free(a);
	else
		upstream_call_start(&a->call);
}

void aside_end_session(struct worker *w, const struct session_record *record)
{
	struct upstream *u = find_upstream(w, record->upstream);
	struct aside *a;

	if (!record->upstream_session[0] || !u || !(a = aside_create(u, record, UPSTREAM_END)))
		return;
	a->call.repeatable = true;
	aside_start(a, record, "DELETE", false);
}

void aside_post(struct upstream *u, const struct session_record *record, struct span message)
{
	struct aside *a = aside_create(u, record, UPSTREAM_POST);

	if (!a)
		return;
	if (buffer_append(&a->body, message.p, message.n, message.n))
		aside_free(a);
	else
		aside_start(a, record, "POST", true);
}

void asides_close(struct worker *w)
{
	while (!LIST_EMPTY(&w->asides)) {
		struct aside *a = LIST_FIRST(&w->asides);
		upstream_call_cancel(&a->call);
		aside_free(a);
	}
}
