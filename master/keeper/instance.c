/*
 * instance: see instance.h.
 *
 *   SPARE -> STARTING -> READY -> STOPPING -> GONE
 *                          |         ^
 *                          +-> DOWN -+      (restartable: the next request starts it again)
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/channel.h"
#include "common/leftovers.h"
#include "common/procfs.h"
#include "common/turn.h"
#include "master/keeper/peer.h"
#include "master/keeper/spawn.h"
#include "master/keeper/stateless.h"

/* The stop ladder: end of stdin, SIGTERM, SIGKILL; seconds between the steps. */
static const double ladder[] = {1.5, 1.5};
static const double mute_patience = 0.5;
static const char mute[] = "it closed its stdout";
static const int ladder_signals[] = {SIGTERM, SIGKILL};

enum { LADDER_STEPS = sizeof(ladder) / sizeof(ladder[0]) };

const char *instance_state_name(const struct instance *i)
{
	static const char *const names[] = {
	    [INSTANCE_SPARE] = "spare",
	    [INSTANCE_STARTING] = "starting",
	    [INSTANCE_READY] = "ready",
	    [INSTANCE_DOWN] = "down",
	    [INSTANCE_STOPPING] = "stopping",
	    [INSTANCE_GONE] = "gone",
	};

	return names[i->state];
}

/* --- life
 * ------------------------------------------------------------------------------------------- */

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events);

struct instance *instance_add(struct fleet *f, uint64_t id)
{
	struct keeper *k = f->keeper;
	struct instance *i = calloc(1, sizeof(*i)), *added;

	if (!i)
		return NULL;
	i->id = id;
	HASH_ADD(hh, k->by_id, id, sizeof(i->id), i);
	HASH_FIND(hh, k->by_id, &id, sizeof(id), added);
	if (!added) {
		free(i);
		return NULL;
	}
	i->keeper = k;
	i->fleet = f;
	i->state = INSTANCE_DOWN;
	i->shared = f->config && f->config->sharing == CONFIG_SHARED;
	i->in = i->out = i->err = i->report = i->pidfd = i->page_fd = -1;
	i->last_used = clock_coarse();
	TAILQ_INIT(&i->waiters);
	ev_timer_init(&i->timer, on_timer, 0, 0);
	TAILQ_INSERT_TAIL(&f->instances, i, link);
	return i;
}

struct instance *instance_create(struct fleet *f)
{
	struct keeper *k = f->keeper;
	struct instance *i = instance_add(f, ++k->last_id);

	if (!i)
		return NULL;
	i->page_fd = page_create(&i->page);
	if (i->page_fd < 0) {
		i->page = NULL;
		instance_stop(i, "out of memory");
		return NULL;
	}
	i->page->id = i->id;
	snprintf(i->page->upstream, sizeof(i->page->upstream), "%s", f->name);
	snprintf(i->page->digest, sizeof(i->page->digest), "%s", f->digest);
	return i;
}

void instance_keep(struct instance *i)
{
	/* One that is being stopped has no stdin any more. */
	const int all[] = {i->page_fd, i->in, i->out, i->err};
	const int rest[] = {i->page_fd, i->out, i->err};
	bool whole = i->pid > 0 && i->out >= 0 && i->err >= 0;
	unsigned count = !whole ? 1 : i->in >= 0 ? 4 : 3;

	i->kept =
	    keeper_tell_master(i->keeper, CHANNEL_KEEP, i->id, count == 3 ? rest : all, count);
}

/* Write the child down, or that it is gone. */
static void write_row(struct instance *i, pid_t pid, uint64_t start_time)
{
	struct keeper *k = i->keeper;

	if (leftovers_write(k->boot->children_file, i->page->row, pid, start_time))
		LOG_TEXT(k->log, LOG_LEVEL_WARN, "the list of children can't be written");
}

static bool take_row(struct instance *i)
{
	struct keeper *k = i->keeper;
	size_t row = 0;

	while (row < k->row_count && k->rows[row])
		row++;
	if (row == k->row_count) {
		uint8_t *rows = realloc(k->rows, row + 256);
		if (!rows)
			return false;
		memset(rows + row, 0, 256);
		k->rows = rows;
		k->row_count = row + 256;
	}
	k->rows[row] = 1;
	i->page->row = (uint32_t)row;
	return true;
}

/* Free for good, when the loop turns. */
static void bury(struct instance *i)
{
	struct keeper *k = i->keeper;
	struct fleet *f = i->fleet;

	if (i->state == INSTANCE_GONE)
		return;
	i->state = INSTANCE_GONE;
	ev_timer_stop(k->loop, &i->timer);
	if (i->is_dirty)
		TAILQ_REMOVE(&k->dirty, i, dirty);
	i->is_dirty = false;
	HASH_DEL(k->by_id, i);
	TAILQ_REMOVE(&f->instances, i, link);
	TAILQ_INSERT_TAIL(&k->dead, i, dead);
	i->fleet = NULL;
	keeper_forget(k, i->id);
	fleet_changed(f);
	keeper_check_stopped(k);
}

/* Whoever waits for something of this child is told that it is over. */
static void let_go(struct instance *i, const char *why)
{
	struct link *l, *next;

	calls_fail(i, why);
	waiters_fail(&i->waiters, METRIC_REASON_CLOSED, why);
	HASH_ITER (hh, i->links, l, next) {
		link_end_streams(l);
		link_free(l);
	}
}

void instance_free(struct instance *i)
{
	pipes_close(i);
	if (i->page)
		page_close(i->page);
	if (i->page_fd >= 0)
		close(i->page_fd);
	scanning_free(i->scanning);
	lines_clear(&i->output);
	lines_clear(&i->errors);
	buffer_release(&i->handshake);
	buffer_release(&i->result);
	free(i);
}

/* Close stdin, and see that more follows. */
static void begin_ladder(struct instance *i, const char *why)
{
	struct keeper *k = i->keeper;

	LOG(k->log, LOG_LEVEL_INFO, "child is stopped", LOG_STR("upstream", i->fleet->name),
	    LOG_INT("child_pid", i->pid), LOG_STR("reason", why));
	/* The MCP way first: the end of its input (2024-11-05, lifecycle). */
	instance_flush(i);
	pipes_end_input(i);
	/* There is an end only when the master lets go of it, too. */
	instance_keep(i);
	i->step = 0;
	ev_timer_stop(k->loop, &i->timer);
	if (i->how[0]) /* it has ended, and its pid may be another's */
		return;
	ev_timer_set(&i->timer, ladder[0], 0);
	ev_timer_start(k->loop, &i->timer);
}

void instance_stop(struct instance *i, const char *why)
{
	if (i->state == INSTANCE_STOPPING && i->recycled) {
		/* Its process is on the ladder already. */
		i->recycled = false;
		let_go(i, why);
	}
	if (i->state == INSTANCE_STOPPING || i->state == INSTANCE_GONE)
		return;
	if (i->state == INSTANCE_SPARE)
		i->fleet->spare--;
	i->state = INSTANCE_STOPPING;
	let_go(i, why);
	if (i->pid > 0)
		begin_ladder(i, why);
	else
		bury(i);
}

/* Whether its sessions may go on with another process. */
static bool is_restartable(const struct instance *i)
{
	const struct fleet *f = i->fleet;

	return f->config->restartable && !f->retired && !i->keeper->stopping && i->page &&
	       i->page->ready && !i->stateless && (i->shared || i->bound);
}

void instance_recycle(struct instance *i, const char *why)
{
	if (i->state == INSTANCE_STOPPING || i->state == INSTANCE_GONE)
		return;
	if (!is_restartable(i)) {
		instance_stop(i, why);
		return;
	}
	calls_fail(i, why);
	if (i->pid <= 0) {
		i->state = INSTANCE_DOWN;
		return;
	}
	i->state = INSTANCE_STOPPING;
	i->recycled = true;
	begin_ladder(i, why);
}

/* The next step of the ladder. */
static void climb(struct instance *i)
{
	struct keeper *k = i->keeper;

	LOG(k->log, i->step + 1 < LADDER_STEPS ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
	    "child does not end by itself", LOG_STR("upstream", i->fleet->name),
	    LOG_INT("child_pid", i->pid), LOG_STR("signal", strsignal(ladder_signals[i->step])));
	if (ladder_signals[i->step] == SIGKILL)
		cgroup_kill(&k->cgroup, i->page->mark);
	kill(-i->pid, ladder_signals[i->step]);
	kill(i->pid, ladder_signals[i->step]);
	i->step++;
	if (i->step >= LADDER_STEPS)
		return; /* it can't refuse that */
	ev_timer_set(&i->timer, ladder[i->step], 0);
	ev_timer_start(k->loop, &i->timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct instance *i = container_of(timer, struct instance, timer);
	char why[80];

	turn_enter("child deadline");
	(void)loop;
	(void)events;
	if (i->state == INSTANCE_STOPPING) {
		climb(i);
	} else if (i->out < 0 && i->state == INSTANCE_READY) {
		instance_recycle(i, mute);
	} else if (i->out < 0) {
		instance_fail_start(i, mute);
	} else if (i->state == INSTANCE_STARTING && i->stateless) {
		stateless_late(i);
	} else if (i->state == INSTANCE_STARTING) {
		snprintf(why, sizeof(why), "it did not answer initialize within %g s",
		    i->fleet->config->handshake_timeout);
		instance_fail_start(i, why);
	}
}

void instance_mute(struct instance *i)
{
	if (i->state == INSTANCE_STOPPING || i->state == INSTANCE_GONE)
		return;
	/* Its exit status, which says more, may be on its way. */
	ev_timer_stop(i->keeper->loop, &i->timer);
	ev_timer_set(&i->timer, mute_patience, 0);
	ev_timer_start(i->keeper->loop, &i->timer);
}

void instance_fail_start(struct instance *i, const char *why)
{
	struct fleet *f = i->fleet;
	char text[200];

	snprintf(text, sizeof(text), "%s", why);
	fleet_failed(f, text);
	waiters_fail(&i->waiters, METRIC_REASON_CONNECT, text);
	instance_recycle(i, text);
}

void instance_count_process(struct instance *i, int by)
{
	struct fleet *f = i->fleet;

	f->running = (unsigned)((int)f->running + by);
	fleet_changed(f);
}

/* Its process is gone, and all that it said is delivered. */
static void instance_died(struct instance *i, const char *how)
{
	struct keeper *k = i->keeper;
	struct fleet *f = i->fleet;
	enum instance_state state = i->state;
	char why[200];
	bool ran = !pipes_take_report(i, why, sizeof(why));

	if (ran)
		snprintf(why, sizeof(why), "its process %d ended: %s", (int)i->pid, how);
	LOG(k->log, state == INSTANCE_STOPPING ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "child ended",
	    LOG_STR("upstream", f->name), LOG_INT("child_pid", i->pid), LOG_STR("how", how),
	    LOG_UINT("calls", HASH_COUNT(i->calls)));
	ev_timer_stop(k->loop, &i->timer);
	cgroup_leave(&k->cgroup, i->page->mark);
	orphans_sweep(k, i->pid, i->page->mark);
	write_row(i, 0, 0);
	k->rows[i->page->row] = 0;
	pipes_close(i);
	i->pid = i->page->pid = 0;
	i->how[0] = '\0';
	if (state == INSTANCE_SPARE)
		f->spare--;
	i->state = INSTANCE_DOWN;
	instance_count_process(i, -1);
	if (ran && state == INSTANCE_STARTING && stateless_ended(i)) {
		LOG_TEXT(k->log, LOG_LEVEL_DEBUG, "it ended when it was asked for its era");
	} else if (state == INSTANCE_SPARE || state == INSTANCE_STARTING) {
		fleet_failed(f, why);
	} else if (state == INSTANCE_READY) {
		f->deaths++;
		snprintf(f->last_error, sizeof(f->last_error), "%s", why);
		METRIC_ADD(k->metrics, CHILD_DEATHS, 1, f->metrics_id);
		/* One for all that ends as soon as it is ready is no better than one that never
		 * was; of others that is for their own session to suffer. */
		if (clock_coarse() - i->ready_at < INSTANCE_PROBATION &&
		    (i->shared || f->config->restartable))
			fleet_failed(f, why);
	}
	/* What ends on the ladder for good was let go of when that began. */
	if ((state != INSTANCE_STOPPING || i->recycled) && is_restartable(i)) {
		i->recycled = false;
		calls_fail(i, why);
		if (state == INSTANCE_STARTING)
			waiters_fail(&i->waiters, METRIC_REASON_CLOSED, why);
		i->page->midway_in = i->page->midway_out = 0;
		instance_keep(i);
		waiters_run(&i->waiters);
	} else {
		i->recycled = false;
		instance_stop(i, why);
	}
	keeper_check_stopped(k);
}

void instance_ended(struct instance *i, const char *how)
{
	struct ev_loop *loop = i->keeper->loop;
	char text[sizeof(i->how)];

	snprintf(text, sizeof(text), "%s", how);
	if (!i->how[0]) {
		memcpy(i->how, text, sizeof(text));
		i->drained = 0;
		ev_timer_stop(loop, &i->timer);
		if (i->pidfd >= 0)
			ev_io_stop(loop, &i->pidfd_io);
	}
	pipes_drain(i);
	instance_update(i);
	if (!i->scanning && i->state != INSTANCE_GONE)
		instance_died(i, text);
}

/* --- start
 * ------------------------------------------------------------------------------------------ */

bool instance_spawn(struct instance *i)
{
	struct keeper *k = i->keeper;
	struct fleet *f = i->fleet;
	struct spawned s;
	char why[320];

	/* One for each process: what the last one left must not be taken for the next. */
	snprintf(i->page->mark, sizeof(i->page->mark), "MARGAY_CHILD=%s.%llu.%u", k->run,
	    (unsigned long long)i->id, i->restarts);
	k->spawns++;
	bool row = take_row(i);
	int group = cgroup_join(&k->cgroup, i->page->mark, f->config);
	int error =
	    row ? spawn_start(f->config, i->page->mark, group, &s, why, sizeof(why)) : -ENOMEM;
	if (group >= 0)
		close(group);
	if (error) {
		if (row)
			k->rows[i->page->row] = 0;
		cgroup_leave(&k->cgroup, i->page->mark);
		instance_fail_start(i, error == -ENOMEM ? "out of memory" : why);
		return false;
	}
	i->pid = i->page->pid = s.pid;
	i->page->start_time = s.start_time;
	i->page->initialized = 0;
	i->ours = true;
	i->in = s.in;
	i->out = s.out;
	i->err = s.err;
	i->started = i->page->started = i->last_used = clock_coarse();
	i->state = INSTANCE_STARTING;
	write_row(i, s.pid, s.start_time);
	instance_keep(i);
	pipes_watch(i);
	pipes_await_exec(i, s.report);
	ev_timer_stop(k->loop, &i->timer);
	ev_timer_set(&i->timer, f->config->handshake_timeout, 0);
	ev_timer_start(k->loop, &i->timer);
	f->starts++;
	METRIC_ADD(k->metrics, CHILD_STARTS, 1, f->metrics_id);
	METRIC_SET(k->metrics, CHILD_LAST_START, (uint64_t)ev_time(), f->metrics_id);
	instance_count_process(i, 1);
	LOG(k->log, LOG_LEVEL_INFO, "child started", LOG_STR("upstream", f->name),
	    LOG_INT("child_pid", i->pid));
	return true;
}

void instance_ready(struct instance *i)
{
	struct keeper *k = i->keeper;

	ev_timer_stop(k->loop, &i->timer);
	i->state = INSTANCE_READY;
	i->ready_at = clock_coarse();
	i->page->ready = i->page->initialized = 1;
	i->page->restarts = i->restarts;
	if (page_write_texts(
		i->page_fd, i->page, buffer_span(&i->handshake), buffer_span(&i->result)))
		LOG(k->log, LOG_LEVEL_WARN, "a child would not outlive the keeper",
		    LOG_STR("upstream", i->fleet->name));
}
