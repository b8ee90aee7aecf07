/*
 * pool: which connection a call gets, and when it gets none.
 *
 * A call takes the connection used last, or opens one, or waits in line when
 * `limits.upstream_connections` are open. The line is bounded; whoever waits does so at most
 * `timeouts.upstream_connect`.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/upstream/stdio.h"
#include "worker/upstream/upstream.h"

enum { UPSTREAM_WAITING_MAX = 1024 };

static const double retry_pause = 0.25; /* seconds */

static void on_progress_deadline(struct timeout_queue *queue, struct timeout *timeout);
static void on_total_deadline(struct timeout_queue *queue, struct timeout *timeout);
static void on_idle_deadline(struct timeout_queue *queue, struct timeout *timeout);

int upstreams_open(struct worker *w, struct upstream **out)
{
	struct upstream *rows = calloc(w->config->upstream_count + 1, sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	TAILQ_INIT(&w->closed_upstreams);
	TAILQ_INIT(&w->posted_upstreams);
	for (size_t i = 0; i < w->config->upstream_count; i++) {
		struct upstream *u = &rows[i];
		u->worker = w;
		u->config = &w->config->upstreams[i];
		u->metrics_id = metrics_upstream_id(w->boot->metrics, u->config->name);
		TAILQ_INIT(&u->idle);
		TAILQ_INIT(&u->waiting);
	}
	*out = rows;
	return 0;
}

void upstreams_close(struct worker *w)
{
	for (size_t i = 0; i < w->config->upstream_count; i++) {
		struct upstream *u = &w->upstreams[i];
		while (!TAILQ_EMPTY(&u->idle))
			upstream_connection_close(TAILQ_FIRST(&u->idle));
		buffer_release(&u->discover);
	}
}

void upstream_timeouts_init(struct worker *w)
{
	const struct config_timeouts *after = &w->config->timeouts;
	struct worker_timeouts *t = &w->timeouts;

	timeout_queue_init(
	    &t->upstream_connect, w->loop, after->upstream_connect, on_progress_deadline);
	timeout_queue_init(
	    &t->upstream_first_byte, w->loop, after->upstream_first_byte, on_progress_deadline);
	timeout_queue_init(&t->upstream_between_bytes, w->loop, after->upstream_between_bytes,
	    on_progress_deadline);
	timeout_queue_init(&t->upstream_total, w->loop, after->upstream_total, on_total_deadline);
	timeout_queue_init(&t->upstream_again, w->loop, retry_pause, on_progress_deadline);
	timeout_queue_init(&t->upstream_idle, w->loop, after->upstream_idle, on_idle_deadline);
}

void upstream_call_deadline(struct upstream_call *call, struct timeout_queue *queue)
{
	if (call->progress_queue)
		timeout_disarm(call->progress_queue, &call->progress);
	call->progress_queue = queue;
	if (queue)
		timeout_arm(queue, &call->progress);
}

/* Take a call off whatever it is doing. Its connection, if any, is no longer its. */
static void call_detach(struct upstream_call *call, bool timed_out)
{
	struct upstream *u = call->upstream;

	upstream_call_deadline(call, NULL);
	timeout_disarm(&u->worker->timeouts.upstream_total, &call->total);
	if (call->state == CALL_RESOLVING)
		resolver_cancel(u->worker->resolver, &call->query);
	if (call->state == CALL_WAITING) {
		TAILQ_REMOVE(&u->waiting, call, link);
		u->waiting_count--;
	}
	if (call->by_keeper && call->state != CALL_OVER)
		stdio_call_detach(call, timed_out);
	call->state = CALL_OVER;
	if (call->connection) {
		call->connection->call = NULL;
		call->connection = NULL;
	}
}

void upstream_call_end(struct upstream_call *call, int reason, const char *detail)
{
	struct upstream *u = call->upstream;

	call_detach(call, reason == METRIC_REASON_TIMEOUT);
	if (reason != UPSTREAM_OK)
		METRIC_ADD(u->worker->metrics, UPSTREAM_ERRORS, 1, u->metrics_id, (unsigned)reason);
	call->ops->end(call, reason, detail);
}

void upstream_call_cancel(struct upstream_call *call)
{
	struct upstream_connection *uc = call->connection;

	if (call->state == CALL_OVER)
		return;
	call_detach(call, false);
	if (uc)
		upstream_connection_close(uc);
}

void upstream_call_unreachable(struct upstream_call *call, int reason, const char *detail)
{
	struct worker *w = call->upstream->worker;
	double now = clock_coarse();

	if (call->failing_since <= 0)
		call->failing_since = now;
	if (w->draining || now - call->failing_since >= w->config->timeouts.upstream_retry) {
		upstream_call_end(call, reason, detail);
		return;
	}
	if (call->connection)
		call->connection->call = NULL;
	call->connection = NULL;
	call->state = CALL_RETRYING;
	upstream_call_deadline(call, &w->timeouts.upstream_again);
}

static void on_resolved(struct resolver_query *query, int status, const struct resolved *addresses)
{
	struct upstream_call *call = container_of(query, struct upstream_call, query);

	if (status) {
		call->state = CALL_RETRYING;
		upstream_call_unreachable(call, METRIC_REASON_DNS, "its host name has no address");
		return;
	}
	call->state = CALL_WAITING;
	TAILQ_INSERT_HEAD(&call->upstream->waiting, call, link);
	call->upstream->waiting_count++;
	call->upstream->addresses = *addresses;
	upstream_serve_waiting(call->upstream);
}

static void call_wait(struct upstream_call *call)
{
	struct upstream *u = call->upstream;

	if (u->waiting_count >= UPSTREAM_WAITING_MAX) {
		upstream_call_end(
		    call, METRIC_REASON_LIMIT, "all its connections are busy and the line is full");
		return;
	}
	call->state = CALL_WAITING;
	TAILQ_INSERT_TAIL(&u->waiting, call, link);
	u->waiting_count++;
	upstream_call_deadline(call, &u->worker->timeouts.upstream_connect);
}

static void call_connect(struct upstream_call *call)
{
	struct upstream *u = call->upstream;
	struct worker *w = u->worker;

	upstream_call_deadline(call, &w->timeouts.upstream_connect);
	if (u->dial) {
		upstream_connection_open(u, call);
		return;
	}
	call->query.done = on_resolved;
	int found = resolver_lookup(
	    w->resolver, u->config->host, u->config->port, &call->query, &u->addresses);
	if (found < 0)
		upstream_call_unreachable(
		    call, METRIC_REASON_DNS, "its host name can't be looked up");
	else if (found == 0)
		call->state = CALL_RESOLVING;
	else
		upstream_connection_open(u, call);
}

void upstream_call_assign(struct upstream_call *call)
{
	struct upstream *u = call->upstream;
	struct upstream_connection *idle = call->fresh ? NULL : TAILQ_FIRST(&u->idle);

	if (idle)
		upstream_connection_use(idle, call);
	else if (u->open_count < u->worker->config->limits.upstream_connections)
		call_connect(call);
	else
		call_wait(call);
}

void upstream_serve_waiting(struct upstream *u)
{
	struct upstream_call *call = TAILQ_FIRST(&u->waiting);

	if (!call || (TAILQ_EMPTY(&u->idle) &&
			 u->open_count >= u->worker->config->limits.upstream_connections))
		return;
	TAILQ_REMOVE(&u->waiting, call, link);
	u->waiting_count--;
	call->state = CALL_OVER;
	upstream_call_assign(call);
}

void upstream_call_start(struct upstream_call *call)
{
	struct worker *w = call->upstream->worker;

	METRIC_ADD(w->metrics, UPSTREAM_REQUESTS, 1, call->upstream->metrics_id);
	if (!call->stream)
		timeout_arm(&w->timeouts.upstream_total, &call->total);
	if (call->upstream->config->kind == CONFIG_STDIO)
		stdio_call_start(w->stdio, call);
	else
		upstream_call_assign(call);
}

void upstream_call_pause(struct upstream_call *call)
{
	if (call->paused || (!call->connection && !call->sent))
		return;
	call->paused = true;
	upstream_call_deadline(call, NULL);
	if (call->connection)
		upstream_connection_update(call->connection);
	else
		stdio_call_pause(call, true);
}

void upstream_call_resume(struct upstream_call *call)
{
	if (!call->paused || (!call->connection && !call->sent))
		return;
	call->paused = false;
	if (!call->stream)
		upstream_call_deadline(
		    call, &call->upstream->worker->timeouts.upstream_between_bytes);
	if (call->connection)
		upstream_connection_update(call->connection);
	else
		stdio_call_pause(call, false);
}

bool upstream_call_drop_request(struct upstream_call *call)
{
	if (call->connection && call->written < buffer_length(&call->head) + call->body.n)
		return false;
	buffer_release(&call->head);
	call->body = (struct span){0};
	call->written = 0;
	return true;
}

void upstream_call_endless(struct upstream_call *call, bool endless)
{
	struct worker_timeouts *t = &call->upstream->worker->timeouts;

	if (call->state != CALL_ACTIVE || call->stream == endless)
		return;
	call->stream = endless;
	if (endless)
		timeout_disarm(&t->upstream_total, &call->total);
	else
		timeout_arm(&t->upstream_total, &call->total);
	if (!call->paused)
		upstream_call_deadline(call, endless ? NULL : &t->upstream_between_bytes);
}

static void call_timed_out(struct upstream_call *call, const char *detail)
{
	struct upstream_connection *uc = call->connection;

	upstream_call_end(call, METRIC_REASON_TIMEOUT, detail);
	if (uc)
		upstream_connection_close(uc);
}

static void on_progress_deadline(struct timeout_queue *queue, struct timeout *timeout)
{
	struct upstream_call *call = container_of(timeout, struct upstream_call, progress);
	const struct worker_timeouts *t = &call->upstream->worker->timeouts;

	call->progress_queue = NULL;
	if (queue == &t->upstream_again)
		upstream_call_assign(call);
	else if (queue == &t->upstream_connect)
		call_timed_out(call, "no connection within timeouts.upstream_connect");
	else if (queue == &t->upstream_first_byte)
		call_timed_out(call, "no answer within timeouts.upstream_first_byte");
	else
		call_timed_out(call, "its answer stopped for timeouts.upstream_between_bytes");
}

static void on_total_deadline(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	call_timed_out(container_of(timeout, struct upstream_call, total),
	    "its answer was not complete within timeouts.upstream_total");
}

static void on_idle_deadline(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	upstream_connection_close(container_of(timeout, struct upstream_connection, idle));
}
