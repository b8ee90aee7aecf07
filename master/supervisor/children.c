/* children: see children.h. */
#include "master/supervisor/children.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/exit_code.h"
#include "common/handover.h"
#include "common/ipc/channel.h"
#include "common/ipc/frame.h"
#include "master/supervisor/inventory.h"
#include "master/supervisor/upgrade.h"

enum { CHANNEL_BUDGET = 16, UNKNOWN = -1 /* exit status of who was not our child */ };

static const double ready_patience = 12; /* seconds; a generation that starts gives up after 10 */

static void on_exit_status(struct ev_loop *loop, ev_child *exit, int events);
static void on_channel(struct ev_loop *loop, ev_io *io, int events);

const char *child_state_name(enum child_state state)
{
	static const char *const names[] = {
	    [CHILD_STARTING] = "starting",
	    [CHILD_READY] = "ready",
	    [CHILD_ACCEPTING] = "accepting",
	    [CHILD_DRAINING] = "draining",
	    [CHILD_BACKOFF] = "backoff",
	};

	return names[state];
}

void child_name(const struct child *c, char out[32])
{
	static const char *const names[] = {[ROLE_BROKER] = "broker", [ROLE_KEEPER] = "keeper"};

	if (c->role == ROLE_WORKER)
		snprintf(out, 32, "worker %u", c->number);
	else
		snprintf(out, 32, "%s", names[c->role]);
}

/* The wait of an empty place is over, or a process has been starting for too long. */
static void on_restart(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct child *c = container_of(timer, struct child, restart);
	char name[32];

	(void)loop;
	(void)events;
	if (c->pid <= 0) {
		child_spawn(c);
		return;
	}
	if (c->replacing && c->state == CHILD_ACCEPTING) {
		child_replace_late(c);
		return;
	}
	child_name(c, name);
	LOG(c->supervisor->log, LOG_LEVEL_ERROR, "not ready in time: killed",
	    LOG_STR("child", name), LOG_INT("child_pid", c->pid));
	kill(c->pid, SIGKILL);
}

struct child *child_create(
    struct supervisor *s, enum role role, struct generation *g, unsigned number)
{
	struct child *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->supervisor = s;
	c->role = role;
	c->generation = g;
	c->number = number;
	c->channel = c->pidfd = -1;
	c->metrics_slot = -1;
	c->state = CHILD_BACKOFF;
	c->backoff = BACKOFF_PROCESS;
	ev_timer_init(&c->restart, on_restart, 0, 0);
	hangup_init(&c->hangup);
	return c;
}

void child_free(struct child *c)
{
	ev_timer_stop(c->supervisor->loop, &c->restart);
	vault_close(&c->left);
	free(c);
}

static void back_off(struct child *c, double lifetime)
{
	struct supervisor *s = c->supervisor;
	char name[32];
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)c->pid;
	double wait = backoff_failed(&c->backoff, lifetime, random);
	c->state = CHILD_BACKOFF;
	child_name(c, name);
	LOG(s->log, LOG_LEVEL_WARN, "will be restarted", LOG_STR("child", name),
	    LOG_MILLIS("after_ms", (uint64_t)(wait * 1e6)));
	ev_timer_set(&c->restart, wait, 0);
	ev_timer_start(s->loop, &c->restart);
}

/* Signals wait until the child has put our handlers away: they would write to our loop. */
static pid_t fork_quietly(struct child *c, const int channel[2])
{
	sigset_t all, before;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	log_flush(c->supervisor->log);
	pid_t pid = fork();
	if (pid == 0)
		process_run(c, channel[1]);
	int error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return pid;
}

void child_spawn(struct child *c)
{
	struct supervisor *s = c->supervisor;
	static const enum metric_slot_kind kinds[] = {[ROLE_WORKER] = METRIC_SLOT_WORKER,
	    [ROLE_BROKER] = METRIC_SLOT_BROKER,
	    [ROLE_KEEPER] = METRIC_SLOT_KEEPER};
	int channel[2] = {-1, -1};
	char name[32];
	pid_t pid = -1;

	child_name(c, name);
	s->keeper_epoch += c->role == ROLE_KEEPER;
	c->metrics_slot = metrics_slot_take(
	    s->metrics, kinds[c->role], c->number, c->generation ? c->generation->number : 0);
	if (c->metrics_slot >= 0 &&
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, channel) == 0)
		pid = fork_quietly(c, channel);
	if (pid < 0) {
		LOG(s->log, LOG_LEVEL_ERROR, "can't be started", LOG_STR("child", name),
		    LOG_ERRNO(c->metrics_slot < 0 ? -c->metrics_slot : errno));
		if (c->metrics_slot >= 0)
			metrics_slot_reaped(s->metrics, c->metrics_slot);
		if (channel[0] >= 0)
			close(channel[0]);
		if (channel[1] >= 0)
			close(channel[1]);
		back_off(c, 0);
		return;
	}
	close(channel[1]);
	vault_close(&c->left); /* it has all of it now, and must be the only one */
	c->pid = pid;
	/* It may die before it does so itself. */
	(void)metrics_slot_open(s->metrics, c->metrics_slot, pid);
	c->channel = channel[0];
	c->state = CHILD_STARTING;
	c->started = clock_coarse();
	ev_timer_set(&c->restart, ready_patience, 0);
	ev_timer_start(s->loop, &c->restart);
	c->pidfd = pidfd_open(pid, 0);
	ev_io_init(&c->io, on_channel, c->channel, EV_READ);
	ev_io_start(s->loop, &c->io);
	ev_child_init(&c->exit, on_exit_status, pid, 0);
	ev_child_start(s->loop, &c->exit);
	LOG(s->log, LOG_LEVEL_INFO, "started", LOG_STR("child", name), LOG_INT("child_pid", pid),
	    LOG_UINT("generation", c->generation ? c->generation->number : 0));
}

void child_tell(struct child *c, uint16_t type, const void *payload, size_t n, int fd)
{
	struct frame frame = {.type = type, .length = (uint32_t)n};
	char name[32];

	if (c->channel < 0)
		return;
	int error = frame_send(c->channel, &frame, payload, fd);
	if (!error)
		return;
	child_name(c, name);
	LOG(c->supervisor->log, LOG_LEVEL_WARN, "can't be told", LOG_STR("child", name),
	    LOG_UINT("type", type), LOG_ERRNO(-error));
}

void child_kill(struct child *c)
{
	c->expected = true;
	ev_timer_stop(c->supervisor->loop, &c->restart);
	if (c->pid > 0)
		kill(c->pid, SIGKILL);
}

static void on_message(struct child *c, const struct frame *frame, const int *fds, unsigned count)
{
	if (c->role != ROLE_WORKER && frame->type == CHANNEL_LEAVE) {
		child_leaves(c, frame->target, fds, count);
		return;
	}
	if (c->role == ROLE_KEEPER && frame->type != CHANNEL_READY) {
		keeping_message(c->supervisor, frame, fds, count);
		return;
	}
	while (count > 0)
		close(fds[--count]);
	if (frame->type != CHANNEL_READY || c->state != CHILD_STARTING)
		return;
	ev_timer_stop(c->supervisor->loop, &c->restart);
	if (c->role != ROLE_WORKER) {
		c->state = CHILD_ACCEPTING;
		if (c->role == ROLE_BROKER)
			inventory_broker_started(c->supervisor);
		child_replaced(c);
		return;
	}
	c->state = CHILD_READY;
	generation_update(c->generation);
}

/* Up to `budget` messages. False when there are no more, and none will come. */
static bool hear(struct child *c, unsigned budget)
{
	static char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;

	for (; budget > 0; budget--) {
		int status = frame_receive_fds(c->channel, &frame, payload, fds, &count);
		if (status == -EAGAIN)
			return true;
		if (status <= 0)
			return false;
		on_message(c, &frame, fds, count);
	}
	return true;
}

static void on_channel(struct ev_loop *loop, ev_io *io, int events)
{
	(void)events;
	/* Its end is told by its exit status. */
	if (!hear(container_of(io, struct child, io), CHANNEL_BUDGET))
		ev_io_stop(loop, io);
}

static void log_end(const struct child *c, int status)
{
	char name[32], how[64];
	bool wanted = (c->expected || handover_complete(&c->left)) &&
		      (status == UNKNOWN || (WIFEXITED(status) && WEXITSTATUS(status) == 0));

	child_name(c, name);
	if (status == UNKNOWN)
		snprintf(how, sizeof(how), "how is not known");
	else if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "killed by signal %d", WTERMSIG(status));
	else
		snprintf(how, sizeof(how), "exit code %d", WEXITSTATUS(status));
	LOG(c->supervisor->log, wanted ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "ended",
	    LOG_STR("child", name), LOG_INT("child_pid", c->pid), LOG_STR("how", how),
	    LOG_UINT("generation", c->generation ? c->generation->number : 0));
}

/* The place is empty and is to be filled again. */
static void restart(struct child *c, double lifetime)
{
	struct supervisor *s = c->supervisor;

	c->restarts++;
	static const enum metric_id counters[] = {[ROLE_WORKER] = M_WORKER_RESTARTS,
	    [ROLE_BROKER] = M_BROKER_RESTARTS,
	    [ROLE_KEEPER] = M_KEEPER_RESTARTS};
	metric_count(s->cells, counters[c->role]);
	back_off(c, lifetime);
}

/* It may have been taken from the dead before (metrics_reap_gone), and be another's. */
static bool has_slot(const struct child *c)
{
	struct metrics_slot_info info;

	if (c->metrics_slot < 0)
		return false;
	metrics_slot_info(c->supervisor->metrics, c->metrics_slot, &info);
	return info.pid == c->pid;
}

/* The place is empty now. */
static void clear(struct child *c)
{
	struct supervisor *s = c->supervisor;

	ev_child_stop(s->loop, &c->exit);
	ev_io_stop(s->loop, &c->end);
	ev_timer_stop(s->loop, &c->restart);
	hangup_stop(c);
	ev_io_stop(s->loop, &c->io);
	/* A descriptor that is closed can't be told. */
	inventory_process_gone(s, c);
	close(c->channel);
	if (c->pidfd >= 0)
		close(c->pidfd);
	c->channel = c->pidfd = -1;
	/* The slot of one that was handed over is given back by who has it now. */
	if (has_slot(c) && (s->state != SUPERVISOR_RETIRED || c->state == CHILD_STARTING))
		metrics_slot_reaped(s->metrics, c->metrics_slot);
	c->pid = 0;
	c->metrics_slot = -1;
	c->silent = false;
	c->aborted = 0;
	c->state = CHILD_BACKOFF;
}

static void on_end(struct child *c, int status)
{
	struct supervisor *s = c->supervisor;
	struct generation *g = c->generation;
	double lifetime = clock_coarse() - c->started;

	if (c->role == ROLE_WORKER && g->config->connected && status == 0)
		c->expected = true; /* its client is gone */
	if (c->role != ROLE_WORKER && s->state != SUPERVISOR_RETIRED)
		hear(c, UINT_MAX); /* its last words: no more than the socket holds */
	if (s->state != SUPERVISOR_RETIRED)
		log_end(c, status);
	clear(c);
	if (s->state == SUPERVISOR_RETIRED) {
		upgrade_check_over(s);
		return;
	}
	if (child_made_room(c))
		return;
	if (c->role == ROLE_WORKER && g->config->connected && s->state == SUPERVISOR_RUNNING) {
		/* Everything that its client had of it is gone with it. */
		c->expected = true;
		s->exit_code = status == 0 ? EXIT_OK : EXIT_FAILED;
		supervisor_stop(s, false);
		return;
	}
	if (c->expected || (c->role == ROLE_WORKER && g->state == GENERATION_DRAINING)) {
		c->expected = true;
	} else if (s->state == SUPERVISOR_STARTING || (g && g->state == GENERATION_STARTING)) {
		/* A generation that can't start is not started again and again. */
		c->expected = true;
		static const char *const reasons[] = {
		    [ROLE_WORKER] = "a worker of the new generation ended while starting",
		    [ROLE_BROKER] = "the broker ended while starting",
		    [ROLE_KEEPER] = "the keeper ended while starting"};
		reload_failed(s, reasons[c->role]);
		return;
	} else {
		if (g)
			generation_crashed(g);
		restart(c, lifetime);
	}
	if (g)
		generation_update(g);
	supervisor_check_stopped(s);
}

static void on_exit_status(struct ev_loop *loop, ev_child *exit, int events)
{
	(void)loop;
	(void)events;
	on_end(container_of(exit, struct child, exit), exit->rstatus);
}

/* --- processes of another master --- */

static void on_inherited_end(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)events;
	on_end(container_of(io, struct child, end), UNKNOWN);
}

bool child_is(int channel, int pidfd, pid_t pid)
{
	char path[64], text[512] = "";
	int type = 0;
	socklen_t length = sizeof(type);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (fd >= 0)
		close(fd);
	const char *line = n > 0 ? strstr(text, "\nPid:") : NULL;
	/* One that has just ended has the pid -1: its end will be seen. */
	long found = line ? strtol(line + strlen("\nPid:"), NULL, 10) : 0;
	return (found == pid || found == -1) &&
	       getsockopt(channel, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
	       type == SOCK_SEQPACKET;
}

void child_inherit(struct child *c, const struct process_record *state, int channel, int pidfd)
{
	struct supervisor *s = c->supervisor;

	c->pid = state->pid;
	c->state = (enum child_state)state->state;
	c->restarts = state->restarts;
	c->started = state->started;
	c->metrics_slot = s->metrics_are_inherited ? state->metrics_slot : -1;
	c->expected = c->state == CHILD_DRAINING;
	c->channel = channel;
	c->pidfd = pidfd;
	ev_io_init(&c->io, on_channel, channel, EV_READ);
	ev_io_start(s->loop, &c->io);
	ev_io_init(&c->end, on_inherited_end, pidfd, EV_READ);
	ev_io_start(s->loop, &c->end);
}

void child_retire(struct child *c)
{
	/* It is not handed over (inventory.c): the other master starts its own, and two would be
	 * one too many. */
	if (c->pid > 0 && c->state == CHILD_STARTING)
		kill(c->pid, SIGKILL);
	ev_io_stop(c->supervisor->loop, &c->io);
	ev_timer_stop(c->supervisor->loop, &c->restart);
}

void child_resume(struct child *c)
{
	if (c->pid <= 0) {
		if (c->role != ROLE_WORKER)
			child_spawn(c);
		return;
	}
	ev_io_start(c->supervisor->loop, &c->io);
	if (c->state == CHILD_STARTING) {
		ev_timer_set(&c->restart, ready_patience, 0);
		ev_timer_start(c->supervisor->loop, &c->restart);
	}
}

void child_disown(struct child *c)
{
	if (c->pid <= 0)
		return;
	c->metrics_slot = -1;
	clear(c);
}
