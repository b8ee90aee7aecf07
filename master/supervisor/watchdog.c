/*
 * watchdog: processes that live but do not turn.
 *
 * Each process stores a heartbeat in its metrics slot. A worker that is silent for a second is
 * stood in for by its siblings; it gets its slots back when it is heard again. After two seconds
 * its clients are sent to the siblings, too (hangup.h): they need not wait to learn whether it will
 * ever turn again. Any process that is silent for ten seconds is aborted, for the core, and killed
 * soon after; then it is restarted like any that crashed. One that is being traced is left to
 * whoever traces it, and so are its clients.
 *
 * When the master itself was late (a machine that slept, a stopped master), nobody is judged.
 */
#include <signal.h>

#include "common/clock.h"
#include "common/procfs.h"
#include "master/supervisor/children.h"

/* Seconds. Clients wait for hangup_after, one more check, and the time that a hangup takes: less
 * than 3. */
static const double silent_after = 1, hangup_after = 2, abort_after = 10, kill_after = 2;
static const double late = 1, reap_every = 5;

/* Seconds since it was heard, or since it began to live. */
static double silence_of(const struct child *c, double now)
{
	struct metrics_slot_info info = {0};

	metrics_slot_info(c->supervisor->metrics, c->metrics_slot, &info);
	double heard = (double)info.heartbeat / 1e9;
	return now - (heard > c->started ? heard : c->started);
}

static bool is_traced(pid_t pid)
{
	struct procfs_stat stat;

	return procfs_stat(pid, &stat) == 0 && stat.state == 't';
}

static void set_silent(struct child *c, bool silent, double seconds)
{
	struct supervisor *s = c->supervisor;
	char name[32];

	c->silent = silent;
	child_name(c, name);
	LOG(s->log, silent ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
	    silent ? "does not turn: its siblings accept for it" : "turns again",
	    LOG_STR("child", name), LOG_INT("child_pid", c->pid),
	    LOG_MILLIS("silent_ms", (uint64_t)(seconds * 1e6)));
	if (silent)
		METRIC_ADD(s->cells, WATCHDOG_SILENT, 1, 0);
	generation_update(c->generation);
}

static void end(struct child *c, double now, double seconds)
{
	struct supervisor *s = c->supervisor;
	char name[32];

	if (c->aborted > 0) {
		if (now - c->aborted > kill_after)
			kill(c->pid, SIGKILL);
		return;
	}
	if (is_traced(c->pid))
		return;
	child_name(c, name);
	LOG(s->log, LOG_LEVEL_ERROR, "did not turn for too long: aborted", LOG_STR("child", name),
	    LOG_INT("child_pid", c->pid), LOG_MILLIS("silent_ms", (uint64_t)(seconds * 1e6)));
	METRIC_ADD(s->cells, WATCHDOG_ABORTS, 1, 0);
	c->aborted = now;
	kill(c->pid, SIGABRT);
}

static void check(struct child *c, double now)
{
	if (c->pid <= 0 || c->metrics_slot < 0 || c->state == CHILD_STARTING)
		return;
	double seconds = silence_of(c, now);
	if (c->role == ROLE_WORKER && c->state == CHILD_ACCEPTING &&
	    c->silent != (seconds > silent_after))
		set_silent(c, !c->silent, seconds);
	if (seconds <= hangup_after)
		hangup_stop(c);
	else if (c->role == ROLE_WORKER && !c->hangup.begun && !is_traced(c->pid))
		hangup_begin(c);
	if (seconds > abort_after)
		end(c, now, seconds);
}

void watchdog_check(struct supervisor *s)
{
	double now = (double)clock_nanoseconds() / 1e9, before = s->watched;
	struct generation *g, *next;
	struct child *c;

	s->watched = now;
	/* Processes of a generation that died with its master end a moment after it. */
	if ((int)(now / reap_every) != (int)(before / reap_every))
		metrics_reap_gone(s->metrics);
	if (now - before > late) {
		s->watchdog_rests_until = now + 2 * late;
		return;
	}
	if (now < s->watchdog_rests_until || s->state == SUPERVISOR_STARTING)
		return;
	TAILQ_FOREACH_SAFE (g, &s->generations, link, next) {
		TAILQ_FOREACH (c, &g->workers, link)
			check(c, now);
	}
	check(s->broker, now);
	check(s->keeper, now);
}
