/* drain: see drain.h. */
#include "worker/drain.h"

#include <stdlib.h>

#include "common/ipc/channel.h"
#include "common/turn.h"
#include "worker/accept.h"
#include "worker/http/conn.h"
#include "worker/mcp/desktop.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/lease.h"
#include "worker/mcp/listen.h"
#include "worker/worker.h"

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("drain");
	(void)loop;
	(void)events;
	drain_cut(container_of(timer, struct worker, drain.deadline));
}

void drain_init(struct worker *w)
{
	ev_timer_init(&w->drain.deadline, on_deadline, 0, 0);
}

/* A deadline is only ever brought forward. */
static void set_deadline(struct worker *w, double after)
{
	ev_timer *deadline = &w->drain.deadline;

	if (ev_is_active(deadline) && ev_timer_remaining(w->loop, deadline) <= after)
		return;
	ev_timer_stop(w->loop, deadline);
	ev_timer_set(deadline, after, 0);
	ev_timer_start(w->loop, deadline);
}

/* Say to all that is open when it is to end. */
static void wind_down(struct worker *w)
{
	const struct config_timeouts *after = &w->config->timeouts;
	struct conn *c, *next_conn;
	struct exchange *x, *next;

	set_deadline(w, w->drain.last ? after->shutdown : after->drain_timeout);
	TAILQ_FOREACH_SAFE (x, &w->exchanges, link, next)
		exchange_drain(x);
	listenings_drain(w);
	TAILQ_FOREACH_SAFE (c, &w->conns, link, next_conn)
		conn_drain(c);
}

void drain_start(struct worker *w, uint32_t leaving)
{
	const struct config_timeouts *after = &w->config->timeouts;
	bool capped = after->drain_spread > after->drain_timeout;

	if (w->draining)
		return;
	w->draining = true;
	w->accepting = false;
	w->drain.leaving = true;
	w->drain.began = ev_now(w->loop);
	w->drain.spread_end =
	    w->drain.began + (capped ? after->drain_timeout : after->drain_spread);
	leases_drain(w);
	if (w->desktop)
		desktop_drain(w->desktop);
	LOG(w->log, LOG_LEVEL_INFO, "draining", LOG_UINT("connections", w->conn_count));
	wind_down(w);
	accept_leave(w->slots, leaving);
}

void drain_stopped_accepting(struct worker *w)
{
	w->drain.leaving = false;
	if (worker_tell_master(w, CHANNEL_STOPPED_ACCEPTING, NULL, 0))
		LOG_TEXT(w->log, LOG_LEVEL_WARN, "master did not hear that accepting stopped");
	worker_check_done(w);
}

void drain_last(struct worker *w)
{
	if (w->drain.last)
		return;
	w->drain.last = true;
	if (!w->draining) {
		drain_start(w, 0);
		return;
	}
	if (w->drain.leaving)
		accept_leave(w->slots, 0);
	wind_down(w);
	worker_check_done(w);
}

void drain_cut(struct worker *w)
{
	if (w->draining) {
		w->drain.cut = w->conn_count;
		METRIC_ADD(w->metrics, DRAIN_FORCED, w->drain.cut, 0);
	}
	ev_break(w->loop, EVBREAK_ALL);
}

double drain_wait(const struct worker *w)
{
	double left = w->drain.spread_end - ev_now(w->loop);

	return w->drain.last || left <= 0 ? 0 : left * rand() / RAND_MAX;
}

void drain_ended(const struct worker *w)
{
	double took = ev_now(w->loop) - w->drain.began;

	if (!w->draining)
		return;
	LOG(w->log, w->drain.cut > 0 ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "drained",
	    LOG_MILLIS("after_ms", (uint64_t)(took * 1e6)), LOG_UINT("cut", w->drain.cut));
}
