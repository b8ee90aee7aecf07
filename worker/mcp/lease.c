/* lease: see lease.h. */
#include "worker/mcp/lease.h"

#include <stdlib.h>

#include "worker/mcp/aside.h"
#include "worker/mcp/errand.h"

static const double head_patience = 1; /* seconds */

struct lease {
	LIST_ENTRY(lease) link; /* worker's leases */
	struct liaison_want want;
	bool used;
	struct errand *user;       /* whose call it is for, once it is sent or about to be */
	struct upstream_call call; /* the stream outside of requests, of HTTP servers */
	struct sse_data events;
	struct timeout
	    patience; /* with its head: some servers hold it back until they have an event */
	bool heard;   /* the stream is open, or there is none to be had */
};

bool lease_is_needed(const struct upstream *u, unsigned capabilities)
{
	return u->config->kind == CONFIG_STDIO && capabilities != 0;
}

/* --- the stream outside of requests --- */

static struct lease *lease_of(struct upstream_call *call)
{
	return container_of(call, struct lease, call);
}

/* Now, if it was waited for. */
static void heard(struct lease *l)
{
	timeout_disarm(&l->want.upstream->worker->timeouts.lease_patience, &l->patience);
	if (l->heard)
		return;
	l->heard = true;
	if (l->user)
		errand_send(l->user);
}

static void on_patience_over(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	heard(container_of(timeout, struct lease, patience));
}

static int on_event(struct sse_data *events, struct span data)
{
	struct lease *l = container_of(events, struct lease, events);

	if (l->user)
		errand_take(l->user, data);
	return l->call.state == CALL_OVER;
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	(void)head; /* a refusal is as good as silence */
	heard(lease_of(call));
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct lease *l = lease_of(call);

	if (sse_data_feed(&l->events, p, n, ERRAND_MESSAGE_MAX, on_event) < 0)
		upstream_call_cancel(call);
}

static void on_read_end(struct upstream_call *call)
{
	(void)call;
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct lease *l = lease_of(call);

	(void)reason;
	(void)detail;
	heard(l);
	/* The next call opens it again. */
	l->heard = false;
}

static const struct upstream_call_ops lease_ops = {on_head, on_body, on_read_end, on_end};

static void stream_close(struct lease *l)
{
	upstream_call_cancel(&l->call);
	timeout_disarm(&l->want.upstream->worker->timeouts.lease_patience, &l->patience);
	l->heard = false;
}

void lease_forget(struct lease *lease)
{
	stream_close(lease);
}

void lease_send(struct lease *l, struct errand *r)
{
	struct upstream *u = l->want.upstream;
	struct buffer head = l->call.head;

	l->user = r;
	if (l->heard || u->config->kind == CONFIG_STDIO) {
		errand_send(r);
		return;
	}
	stream_close(l);
	sse_data_release(&l->events);
	l->events = (struct sse_data){0};
	buffer_consume(&head, buffer_length(&head));
	int error =
	    relay_build_head(&head, "GET", u, r->record, (struct span){0}, (struct span){0}, NULL);
	l->call = (struct upstream_call){.upstream = u,
	    .ops = &lease_ops,
	    .head = head,
	    .repeatable = true,
	    .stream = true,
	    .action = UPSTREAM_LISTEN};
	if (error) {
		errand_send(r);
		return;
	}
	timeout_arm(&u->worker->timeouts.lease_patience, &l->patience);
	upstream_call_start(&l->call);
}

/* --- leases --- */

static bool is_same(const struct liaison_want *a, const struct liaison_want *b)
{
	return a->upstream == b->upstream && a->capabilities == b->capabilities &&
	       a->level == b->level;
}

struct lease *lease_take(struct worker *w, const struct liaison_want *want)
{
	struct lease *l;
	unsigned of_upstream = 0;

	LIST_FOREACH (l, &w->leases, link) {
		of_upstream += l->want.upstream == want->upstream;
		if (l->used || !is_same(&l->want, want))
			continue;
		l->used = true;
		return l;
	}
	if (want->upstream->config->kind == CONFIG_HTTP && of_upstream >= LEASES_HTTP_MAX)
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->want = *want;
	l->want.lease = ++w->last_lease;
	l->used = true;
	LIST_INSERT_HEAD(&w->leases, l, link);
	return l;
}

unsigned lease_number(const struct lease *lease)
{
	return lease->want.lease;
}

static void end_session(struct worker *w, struct lease *l)
{
	struct session_id id = liaison_id(&l->want);
	struct session_call call = {0};
	int error = 0;
	const struct session_record *record = sessions_get(w->sessions, &id, &call, &error);

	stream_close(l);
	/* One that is not cached any more is left to its idle time-out. */
	session_call_cancel(w->sessions, &call);
	if (!record)
		return;
	aside_end_session(w, record);
	sessions_end(w->sessions, &id, METRIC_END_CLIENT, NULL);
}

void lease_give_back(struct worker *w, struct lease *lease, bool clean)
{
	lease->used = false;
	lease->user = NULL;
	if (!clean || w->draining)
		end_session(w, lease);
}

void leases_drain(struct worker *w)
{
	struct lease *l;

	LIST_FOREACH (l, &w->leases, link) {
		if (!l->used)
			end_session(w, l);
	}
}

void leases_close(struct worker *w)
{
	struct lease *l;

	while ((l = LIST_FIRST(&w->leases))) {
		LIST_REMOVE(l, link);
		stream_close(l);
		sse_data_release(&l->events);
		buffer_release(&l->call.head);
		free(l);
	}
}

void lease_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.lease_patience, w->loop, head_patience, on_patience_over);
}
