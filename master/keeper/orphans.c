/*
 * orphans: the dead, and what they left.
 *
 * The keeper is a subreaper: descendants of a child that lost their parent become its own, zombies
 * are reaped here. When a child is gone its group is ended, and so is every descendant that had
 * left the group: each carries the child's mark in its environment.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/procfs.h"
#include "common/turn.h"
#include "master/keeper/estate.h"

enum { REAP_BUDGET = 64, ROUNDS = 3 };

static const double grace = 0.5, round_every = 0.2; /* seconds */

struct remnant {
	TAILQ_ENTRY(remnant) link;
	struct keeper *keeper;
	pid_t group;
	unsigned rounds; /* of looking for strays, still to come */
	ev_timer timer;
	char mark[KEEPER_MARK];
};

static struct instance *leader_of(struct keeper *k, pid_t pid)
{
	struct instance *i, *next;

	HASH_ITER (hh, k->by_id, i, next) {
		if (i->pid == pid && i->ours && !i->how[0])
			return i;
	}
	return NULL;
}

static void on_leader_end(struct instance *i, int status)
{
	char how[80];

	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "killed by signal %d (%s)", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	else
		snprintf(how, sizeof(how), "exit code %d", WEXITSTATUS(status));
	instance_ended(i, how);
}

static void on_signal(struct ev_loop *loop, ev_io *io, int events)
{
	struct keeper *k = container_of(io, struct keeper, signals);
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	turn_enter("child end");
	(void)events;
	while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
	}
	for (int budget = REAP_BUDGET; budget > 0; budget--) {
		pid = waitpid(-1, &status, WNOHANG);
		if (pid <= 0)
			return;
		struct instance *i = leader_of(k, pid);
		if (i)
			on_leader_end(i, status);
	}
	/* More are dead: come back after the others had their turn. */
	ev_feed_event(loop, io, EV_READ);
}

/* --- what they left
 * --------------------------------------------------------------------------------- */

/* Looking for strays: processes that have the keeper or the master for parent, because their own
 * is dead. */
struct search {
	struct remnant *remnant;
	pid_t parents[2];
	unsigned found;
};

static void kill_stray(void *context, const struct procfs_stat *process)
{
	struct search *s = context;

	if (process->state == 'Z' ||
	    (process->parent != s->parents[0] && process->parent != s->parents[1]) ||
	    !procfs_environment_has(process->pid, span_of(s->remnant->mark)))
		return;
	s->found++;
	kill(process->pid, SIGKILL);
}

static void remnant_free(struct remnant *r)
{
	struct keeper *k = r->keeper;

	ev_timer_stop(k->loop, &r->timer);
	TAILQ_REMOVE(&k->remnants, r, link);
	free(r);
}

static void on_round(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct remnant *r = container_of(timer, struct remnant, timer);
	struct keeper *k = r->keeper;
	struct search s = {.remnant = r, .parents = {getpid(), getppid()}};

	turn_enter("strays");
	(void)loop;
	(void)events;
	kill(-r->group, SIGKILL);
	cgroup_leave(&k->cgroup, r->mark);
	if (procfs_each(kill_stray, &s))
		LOG_TEXT(k->log, LOG_LEVEL_WARN, "strays can't be looked for: no /proc");
	/* The death of one may make orphans of its own children. */
	if (s.found > 0)
		LOG(k->log, LOG_LEVEL_WARN, "ended processes that a child left behind",
		    LOG_UINT("processes", s.found));
	if (--r->rounds > 0 && s.found > 0) {
		ev_timer_set(&r->timer, round_every, 0);
		ev_timer_start(k->loop, &r->timer);
		return;
	}
	remnant_free(r);
	keeper_check_stopped(k);
}

static void remnant_add(
    struct keeper *k, pid_t group, const char *mark, unsigned rounds, double wait)
{
	struct remnant *r = group > 1 ? calloc(1, sizeof(*r)) : NULL;

	if (group <= 1) /* -1 and 0 would be everybody */
		return;
	if (!r) {
		kill(-group, SIGKILL);
		return;
	}
	r->keeper = k;
	r->group = group;
	r->rounds = rounds;
	snprintf(r->mark, sizeof(r->mark), "%s", mark);
	ev_timer_init(&r->timer, on_round, wait > 0 ? wait : 0, 0);
	ev_timer_start(k->loop, &r->timer);
	TAILQ_INSERT_TAIL(&k->remnants, r, link);
}

void orphans_sweep(struct keeper *k, pid_t group, const char *mark)
{
	if (group > 1)
		kill(-group, SIGTERM);
	remnant_add(k, group, mark, ROUNDS, grace);
}

/* --- from keeper to keeper
 * -------------------------------------------------------------------------- */

void remnants_leave(struct keeper *k, struct handover *h)
{
	struct remnant *r;

	TAILQ_FOREACH (r, &k->remnants, link) {
		struct estate_remnant head = {.timer = ev_timer_remaining(k->loop, &r->timer),
		    .group = r->group,
		    .rounds = r->rounds};
		struct span mark = span_of(r->mark);
		handover_put(h, ESTATE_REMNANT, &head, sizeof(head), &mark, 1);
	}
}

void remnant_inherit(struct keeper *k, const struct handover_record *record)
{
	struct estate_remnant head;
	char mark[KEEPER_MARK];

	handover_head(record, &head, sizeof(head));
	snprintf(mark, sizeof(mark), "%.*s", (int)record->texts[0].n, record->texts[0].p);
	remnant_add(k, head.group, mark, head.rounds, head.timer);
}

int orphans_open(struct keeper *k)
{
	sigset_t child;

	TAILQ_INIT(&k->remnants);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &child, NULL) < 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return -errno;
	int fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	ev_io_init(&k->signals, on_signal, fd, EV_READ);
	ev_io_start(k->loop, &k->signals);
	return 0;
}

void orphans_close(struct keeper *k)
{
	while (!TAILQ_EMPTY(&k->remnants))
		remnant_free(TAILQ_FIRST(&k->remnants));
	ev_io_stop(k->loop, &k->signals);
	close(k->signals.fd);
}
