/* upgrade: the old master's side, and what both do to stand back. See upgrade.h. */
#include "master/supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/procfs.h"
#include "common/signals.h"
#include "common/title.h"
#include "master/supervisor/children.h"
#include "master/supervisor/estate.h"
#include "master/supervisor/inventory.h"
#include "master/supervisor/pid_file.h"

/* Until all is told and the new workers are READY (they have ten seconds themselves); until the
 * new master serves after that. */
static const double start_patience = 20, commit_patience = 10; /* seconds */

static void on_new(struct ev_loop *loop, ev_io *io, int events);
static void hand_over(struct upgrade *u);
static void on_writable(struct ev_loop *loop, ev_io *io, int events);
static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events);
static void on_exit_status(struct ev_loop *loop, ev_child *exit, int events);

void upgrade_close(struct supervisor *s)
{
	struct upgrade *u = s->upgrade;

	if (!u)
		return;
	ev_io_stop(s->loop, &u->io);
	ev_io_stop(s->loop, &u->writable);
	ev_child_stop(s->loop, &u->exit);
	ev_timer_stop(s->loop, &u->deadline);
	close(u->socket);
	free(u);
	s->upgrade = NULL;
}

void upgrade_stop(struct supervisor *s)
{
	struct upgrade *u = s->upgrade;
	struct frame frame = {.type = UPGRADE_GOODBYE};

	if (u && u->role == UPGRADE_NEW && frame_send(u->socket, &frame, NULL, -1))
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "the old master can't be told to end");
}

bool upgrade_busy(const struct supervisor *s)
{
	return s->upgrade && s->upgrade->state != UPGRADE_DONE;
}

/* --- standing back, and coming back --- */

static void each_child(struct supervisor *s, void (*act)(struct child *c))
{
	struct generation *g;
	struct child *c;

	TAILQ_FOREACH (g, &s->generations, link) {
		TAILQ_FOREACH (c, &g->workers, link)
			act(c);
	}
	act(s->broker);
	act(s->keeper);
}

void upgrade_retire(struct supervisor *s)
{
	struct generation *g;

	each_child(s, child_retire);
	TAILQ_FOREACH (g, &s->generations, link)
		ev_timer_stop(s->loop, &g->deadline);
	listeners_retire(s->listeners);
	ev_timer_stop(s->loop, &s->heartbeat);
	control_pause(s->control, true);
	/* The last word on what there is. */
	inventory_update(s);
	ev_prepare_stop(s->loop, &s->prepare);
	s->state = SUPERVISOR_RETIRED;
	s->owns = false;
}

void upgrade_resume(struct supervisor *s)
{
	struct generation *g, *next;

	s->state = SUPERVISOR_RUNNING;
	s->owns = true;
	manifest_unread(&s->manifest, MANIFEST_HOLDER);
	each_child(s, child_resume);
	metrics_reap_gone(s->metrics);
	if (s->current)
		listeners_commit(s->listeners, &s->current->listeners, s->loop);
	TAILQ_FOREACH_SAFE (g, &s->generations, link, next)
		generation_resume(g);
	ev_timer_again(s->loop, &s->heartbeat);
	ev_prepare_start(s->loop, &s->prepare);
	control_pause(s->control, false);
	int error = pid_file_write(s->pid_file);
	if (error)
		LOG(s->log, LOG_LEVEL_WARN, "the pid file can't be written", LOG_ERRNO(-error));
}

/* --- before the new master serves --- */

static void failed(struct supervisor *s, const char *why)
{
	bool handing = s->upgrade->state == UPGRADE_HANDING;
	pid_t pid = s->upgrade->pid;

	if (pid > 0)
		kill(pid, SIGKILL);
	upgrade_close(s);
	if (handing)
		upgrade_resume(s);
	LOG(s->log, LOG_LEVEL_ERROR, "upgrade failed: this binary serves on",
	    LOG_STR("reason", why), LOG_INT("new_pid", pid));
	log_flush(s->log);
	METRIC_ADD(s->cells, UPGRADE_FAILURES, 1, 0);
	notify_tell(&s->notify, "READY=1\nSTATUS=upgrade failed: %s", why);
	control_upgrade_done(s->control, false, why);
	reload_deferred(s);
}

void upgrade_cancel(struct supervisor *s)
{
	const struct upgrade *u = s->upgrade;

	if (u && u->role == UPGRADE_OLD &&
	    (u->state == UPGRADE_STARTING || u->state == UPGRADE_HANDING))
		failed(s, "Margay was told to stop");
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct upgrade *u = container_of(timer, struct upgrade, deadline);

	(void)loop;
	(void)events;
	if (u->state == UPGRADE_STARTING && u->ready) {
		hand_over(u);
		return;
	}
	failed(u->supervisor, u->state == UPGRADE_STARTING
				  ? "the new master was not ready within 20 seconds"
				  : "the new master did not take over within 10 seconds");
}

/* Its exit status, unless it said something on the socket first. */
static void on_exit_status(struct ev_loop *loop, ev_child *exit, int events)
{
	struct upgrade *u = container_of(exit, struct upgrade, exit);
	char why[120];

	(void)events;
	ev_child_stop(loop, exit);
	/* It may have said that it serves. */
	if (u->state == UPGRADE_HANDING && ev_is_active(&u->io))
		on_new(loop, &u->io, EV_READ);
	if (u->state == UPGRADE_DONE || u->state == UPGRADE_RETURNING)
		return; /* told by the socket */
	u->pid = 0;
	if (WIFSIGNALED(exit->rstatus))
		snprintf(why, sizeof(why), "the new master was killed by signal %d",
		    WTERMSIG(exit->rstatus));
	else if (WEXITSTATUS(exit->rstatus) == 127)
		snprintf(why, sizeof(why), "the new binary can't be executed");
	else
		snprintf(why, sizeof(why),
		    "the new master ended with exit code %d; its messages are in the log or on "
		    "stderr",
		    WEXITSTATUS(exit->rstatus));
	failed(u->supervisor, why);
}

NORETURN static void exec_new(const struct supervisor *s, const char *path, int socket)
{
	char number[24], pid[24];
	char *argv[] = {(char *)(uintptr_t)path, (char *)"run", (char *)"-c", s->source.path,
	    s->daemon ? (char *)"--daemon" : NULL, NULL};

	signals_reset();
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	fcntl(socket, F_SETFD, 0);
	snprintf(number, sizeof(number), "%d", socket);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv(UPGRADE_VARIABLE, number, 1);
	if (getenv("WATCHDOG_PID"))
		setenv("WATCHDOG_PID", pid, 1);
	execv(path, argv);
	_exit(127);
}

static pid_t fork_new(struct supervisor *s, const char *path, const int sockets[2])
{
	sigset_t all, before;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	log_flush(s->log);
	pid_t pid = fork();
	if (pid == 0)
		exec_new(s, path, sockets[1]);
	int error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return pid;
}

static const char *refusal(const struct supervisor *s)
{
	if (s->state != SUPERVISOR_RUNNING)
		return "Margay is starting or stopping";
	if (s->upgrade)
		return s->upgrade->state == UPGRADE_DONE
			   ? "the last upgrade is not over: its old master still waits for its "
			     "workers"
			   : "an upgrade is under way";
	if (children_are_replaced(s))
		return "broker or keeper is being replaced: try again when that is over";
	if (reload_busy(s))
		return "a reload is under way: try again when it is over";
	if (!s->source.path || s->source.directory)
		return "only a Margay that was started with a configuration (-c FILE) can be "
		       "upgraded: start another one instead";
	return NULL;
}

static int begin(struct supervisor *s, const char *path)
{
	struct upgrade *u = calloc(1, sizeof(*u));
	int sockets[2];

	if (!u || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets)) {
		free(u);
		return u ? -errno : -ENOMEM;
	}
	*u = (struct upgrade){.supervisor = s, .role = UPGRADE_OLD, .socket = sockets[0]};
	u->pid = fork_new(s, path, sockets);
	int error = -errno;
	close(sockets[1]);
	if (u->pid < 0) {
		close(sockets[0]);
		free(u);
		return error;
	}
	s->upgrade = u;
	ev_io_init(&u->io, on_new, u->socket, EV_READ);
	ev_io_start(s->loop, &u->io);
	ev_child_init(&u->exit, on_exit_status, u->pid, 0);
	ev_child_start(s->loop, &u->exit);
	ev_timer_init(&u->deadline, on_deadline, start_patience, 0);
	ev_timer_start(s->loop, &u->deadline);
	struct frame lock = {.type = UPGRADE_LOCK};
	manifest_unread(&s->manifest, MANIFEST_HEIR);
	inventory_update(s);
	/* Without it the new master refuses, and says so. */
	if (frame_send(u->socket, &lock, NULL, s->pid_file))
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "the new master can't be given the pid file");
	upgrade_tell(u);
	return 0;
}

int upgrade_start(struct supervisor *s, const char *path, char *why, size_t size)
{
	const char *reason = refusal(s);
	const char *binary = path && path[0] ? path : s->program;

	if (!reason && binary[0] != '/')
		reason = "give the new binary's whole path";
	if (!reason && access(binary, X_OK) < 0)
		reason = strerror(errno);
	if (reason) {
		snprintf(why, size, "%.100s: %s", path && path[0] ? path : "upgrade", reason);
		return -EINVAL;
	}
	LOG(s->log, LOG_LEVEL_INFO, "upgrade begins", LOG_STR("binary", binary));
	notify_tell(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=upgrading",
	    (unsigned long long)(clock_nanoseconds() / 1000));
	int error = begin(s, binary);
	if (error) {
		snprintf(why, size, "the new binary can't be started: %s", strerror(-error));
		notify_tell(&s->notify, "READY=1\nSTATUS=upgrade failed: %s", why);
	}
	return error;
}

/* --- telling, both ways --- */

void upgrade_tell(struct upgrade *u)
{
	ev_io_init(&u->writable, on_writable, u->socket, EV_WRITE);
	ev_io_start(u->supervisor->loop, &u->writable);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int events)
{
	struct upgrade *u = container_of(io, struct upgrade, writable);

	(void)events;
	/* What was closed in this turn must not be told: that would end the telling. */
	inventory_update(u->supervisor);
	int error = manifest_tell(&u->supervisor->manifest, MANIFEST_HEIR, io->fd);
	if (error == -EAGAIN)
		return;
	/* Should it be gone, its end is seen elsewhere. */
	ev_io_stop(loop, io);
}

/* --- hand over --- */

static void hand_over(struct upgrade *u)
{
	struct supervisor *s = u->supervisor;

	u->state = UPGRADE_HANDING;
	upgrade_retire(s);
	ev_timer_stop(s->loop, &u->deadline);
	ev_timer_set(&u->deadline, commit_patience, 0);
	ev_timer_start(s->loop, &u->deadline);
	manifest_reopen(&s->manifest, MANIFEST_HEIR);
	upgrade_tell(u);
}

/* Its commit is ours to pace (generation_pace): it knows nothing of older generations yet. */
static void on_ready(struct upgrade *u)
{
	double wait = generation_pace(u->supervisor);

	u->ready = true;
	ev_timer_stop(u->supervisor->loop, &u->deadline);
	if (wait <= 0) {
		hand_over(u);
		return;
	}
	ev_timer_set(&u->deadline, wait, 0);
	ev_timer_start(u->supervisor->loop, &u->deadline);
}

static void on_serving(struct upgrade *u, const char *text)
{
	struct supervisor *s = u->supervisor;

	LOG(s->log, LOG_LEVEL_INFO, "another master has taken over", LOG_INT("new_pid", u->pid));
	log_flush(s->log);
	notify_tell(&s->notify, "MAINPID=%d\nREADY=1\nSTATUS=%s", (int)u->pid, text);
	upgrade_leave(u, true, text);
}

static bool has_own_worker(const struct supervisor *s)
{
	const struct generation *g;
	const struct child *c;

	TAILQ_FOREACH (g, &s->generations, link) {
		TAILQ_FOREACH (c, &g->workers, link) {
			if (c->pid > 0 && ev_is_active(&c->exit))
				return true;
		}
	}
	return false;
}

void upgrade_check_over(struct supervisor *s)
{
	if (s->upgrade && s->upgrade->state == UPGRADE_DONE && !has_own_worker(s))
		ev_break(s->loop, EVBREAK_ALL);
}

void upgrade_leave(struct upgrade *u, bool ok, const char *text)
{
	struct supervisor *s = u->supervisor;

	u->state = UPGRADE_DONE;
	u->role = UPGRADE_OLD;
	title_set("old master");
	ev_timer_stop(s->loop, &u->deadline);
	/* Our gauges would count twice. */
	metrics_slot_reaped(s->metrics, s->metrics_slot);
	control_retire(s->control, ok, text);
	/* Whoever has asked for a reload meanwhile gets it there. */
	if (s->reload.again)
		kill(u->pid, SIGHUP);
	s->reload.again = false;
	upgrade_check_over(s);
}

/* --- rollback, and the death of the new master --- */

static void drop_all(struct supervisor *s)
{
	struct generation *g;

	each_child(s, child_disown);
	while ((g = TAILQ_FIRST(&s->generations)))
		generation_free(g);
	vault_close(&s->vault);
	manifest_close(&s->manifest);
	listeners_close(s->listeners);
	s->listeners = NULL;
}

int upgrade_return(struct supervisor *s, char *why, size_t size)
{
	drop_all(s);
	s->owns = true;
	int error = estate_reopen(s, why, size);
	if (!error)
		error = inherit_all(s, why, size);
	if (error) {
		LOG(s->log, LOG_LEVEL_ERROR, "can't be the master again", LOG_STR("what", why),
		    LOG_ERRNO(-error));
		s->owns = false;
		ev_break(s->loop, EVBREAK_ALL);
		return error;
	}
	s->metrics_slot = metrics_slot_take(s->metrics, METRIC_SLOT_MASTER, 0, 0);
	if (s->metrics_slot >= 0)
		s->cells = metrics_slot_open(s->metrics, s->metrics_slot, getpid());
	METRIC_SET(s->cells, START_TIME, (uint64_t)s->started, 0);
	METRIC_SET(s->cells, GENERATION, s->current->number, 0);
	title_set("master");
	upgrade_resume(s);
	return 0;
}

/* A broker or keeper of the dead master's, of which nothing is known here: two would be one too
 * many. We are its parent now, or will be at once, so it is nobody else. */
static void end_stranger(const struct supervisor *s, int slot, pid_t master)
{
	struct metrics_slot_info info = {0};
	struct procfs_stat process;

	metrics_slot_info(s->metrics, slot, &info);
	if ((info.kind != METRIC_SLOT_BROKER && info.kind != METRIC_SLOT_KEEPER) || info.pid <= 0 ||
	    info.pid == s->broker->pid || info.pid == s->keeper->pid ||
	    procfs_stat(info.pid, &process) ||
	    (process.parent != getpid() && process.parent != master))
		return;
	LOG(s->log, LOG_LEVEL_WARN, "ended: it was the dead master's",
	    LOG_INT("child_pid", info.pid));
	kill(info.pid, SIGKILL);
	metrics_slot_reaped(s->metrics, slot);
}

/* By what is known here; what the other one told our workers is not. So others take their place. */
static void recover_alone(struct supervisor *s, pid_t master, const char *why)
{
	LOG(s->log, LOG_LEVEL_WARN, "nothing can be taken over: what was known here is used",
	    LOG_STR("reason", why));
	for (int slot = 0; slot < METRIC_SLOTS; slot++)
		end_stranger(s, slot, master);
	s->metrics_slot = metrics_slot_take(s->metrics, METRIC_SLOT_MASTER, 0, 0);
	if (s->metrics_slot >= 0)
		s->cells = metrics_slot_open(s->metrics, s->metrics_slot, getpid());
	title_set("master");
	upgrade_resume(s);
	if (s->current)
		reload_back(s, s->current->config_fd, "the other master died: workers of this one");
}

/* No broker lives: nobody would answer. Known if the dead master's slot is among ours. */
static bool broker_is_gone(const struct supervisor *s, pid_t master)
{
	struct metrics_slot_info info;
	struct procfs_stat process;
	bool shared = false;

	for (int slot = 0; slot < METRIC_SLOTS; slot++) {
		metrics_slot_info(s->metrics, slot, &info);
		shared |= info.kind == METRIC_SLOT_MASTER && info.pid == master;
		if (info.kind == METRIC_SLOT_BROKER && info.pid > 0 &&
		    procfs_stat(info.pid, &process) == 0 && process.state != 'Z')
			return false;
	}
	return shared;
}

void upgrade_recover(struct supervisor *s)
{
	char why[300] = "no broker is left";
	pid_t master = s->upgrade->pid;
	bool gone = broker_is_gone(s, master);

	upgrade_close(s);
	manifest_close(&s->heritage.manifest);
	s->heritage.alive = false;
	if (gone || takeover_begin(s, why, sizeof(why)) || !s->heritage.alive) {
		recover_alone(s, master, why);
		return;
	}
	if (upgrade_return(s, why, sizeof(why)) == 0) {
		METRIC_ADD(s->cells, TAKEOVERS, 1, 0);
		reload_deferred(s);
		inherit_settle(s);
	}
}

/* What this binary served by before: its own workers come back with that. */
static void on_rollback(struct upgrade *u)
{
	struct supervisor *s = u->supervisor;
	int config = fcntl(s->current->config_fd, F_DUPFD_CLOEXEC, 3);
	char why[200];

	if (upgrade_return(s, why, sizeof(why)) == 0) {
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "rolled back: this master serves again");
		METRIC_ADD(s->cells, ROLLBACKS, 1, 0);
		/* One that died meanwhile is the new binary's now. */
		children_replace(s);
		reload_back(s, config, "rolled back to the old binary and its configuration");
	}
	close(config);
}

void upgrade_returned(struct supervisor *s, bool ok, const char *message)
{
	struct upgrade *u = s->upgrade;
	struct frame frame = {
	    .type = UPGRADE_SERVING, .length = (uint32_t)strlen(message), .target = ok};

	if (!u || u->state != UPGRADE_RETURNING)
		return;
	if (frame_send(u->socket, &frame, message, -1))
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "the other master can't be told");
	upgrade_close(s);
}

static void on_new_gone(struct upgrade *u)
{
	struct supervisor *s = u->supervisor;

	if (s->state != SUPERVISOR_RETIRED || u->state == UPGRADE_HANDING)
		return;           /* its exit status says it better, or we are the master again */
	if (!has_own_worker(s)) { /* it was told to stop, and everything with it */
		ev_break(s->loop, EVBREAK_ALL);
		return;
	}
	LOG_TEXT(s->log, LOG_LEVEL_ERROR, "the new master is dead: this one takes over again");
	notify_tell(&s->notify, "MAINPID=%d", (int)getpid());
	upgrade_recover(s);
}

static void on_message(struct upgrade *u, const struct frame *frame, const char *payload)
{
	char text[200];

	snprintf(text, sizeof(text), "%.*s", (int)frame->length, payload);
	if (frame->type == UPGRADE_READY && u->state == UPGRADE_STARTING)
		on_ready(u);
	else if (frame->type == UPGRADE_SERVING && u->state == UPGRADE_HANDING)
		on_serving(u, text);
	else if (frame->type == UPGRADE_GOODBYE && u->state == UPGRADE_DONE)
		ev_break(u->supervisor->loop, EVBREAK_ALL);
	else if (frame->type == UPGRADE_ROLLBACK && u->state == UPGRADE_DONE)
		u->state = UPGRADE_RETURNING;
}

static void on_new(struct ev_loop *loop, ev_io *io, int events)
{
	struct upgrade *u = container_of(io, struct upgrade, io);
	char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;

	(void)events;
	int status = frame_receive_fds(io->fd, &frame, payload, fds, &count);
	if (status == -EAGAIN)
		return;
	if (status != 1) {
		ev_io_stop(loop, io);
		on_new_gone(u);
		return;
	}
	if (frame.type >= MANIFEST_ANEW && frame.type <= MANIFEST_END &&
	    u->state == UPGRADE_RETURNING) {
		struct manifest *m = &u->supervisor->heritage.manifest;
		if (manifest_take(m, &frame, payload, fds, count) == 1)
			on_rollback(u);
		return;
	}
	while (count > 0)
		close(fds[--count]);
	on_message(u, &frame, payload);
}
