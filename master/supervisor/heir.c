/* heir: the new master's side of an upgrade. See upgrade.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "master/supervisor/children.h"
#include "master/supervisor/inventory.h"
#include "master/supervisor/pid_file.h"
#include "master/supervisor/upgrade.h"

/* The last: to take everything back and start workers, which may take ten. */
static const double first_patience = 20, last_patience = 10, return_patience = 20; /* seconds */

static void on_old(struct ev_loop *loop, ev_io *io, int events);
static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events);

int heir_begin(struct supervisor *s, int socket, char *why, size_t size)
{
	struct upgrade *u = calloc(1, sizeof(*u));
	int lock = -1;

	if (!u)
		return -ENOMEM;
	*u = (struct upgrade){.supervisor = s,
	    .role = UPGRADE_NEW,
	    .state = UPGRADE_STARTING,
	    .socket = socket,
	    .pid = getppid()};
	ev_io_init(&u->io, on_old, socket, EV_READ);
	ev_timer_init(&u->deadline, on_deadline, last_patience, 0);
	s->upgrade = u;
	int error = takeover_receive(socket, &s->heritage.manifest, first_patience, &lock);
	if (!error && lock < 0)
		error = -EPROTO;
	s->pid_file = lock;
	if (error)
		snprintf(why, size, "the old master's possessions can't be taken: %s",
		    error == -EBADMSG ? "it is of a version that does not fit" : strerror(-error));
	/* Only the master speaks to the service manager. */
	notify_close(&s->notify);
	ev_io_start(s->loop, &u->io);
	return error;
}

static int tell(const struct upgrade *u, enum upgrade_frame type, const char *text)
{
	struct frame frame = {
	    .type = (uint16_t)type, .length = (uint32_t)strlen(text), .target = 1};

	return frame_send(u->socket, &frame, text, -1);
}

bool heir_waits(struct supervisor *s)
{
	struct upgrade *u = s->upgrade;

	if (!u || u->role != UPGRADE_NEW || u->state == UPGRADE_DONE)
		return false;
	if (u->state != UPGRADE_STARTING)
		return true;
	u->state = UPGRADE_HANDING;
	/* From here on it is for the old master to be in time. */
	ev_timer_stop(s->loop, &s->reload.next->deadline);
	ev_timer_start(s->loop, &u->deadline);
	if (tell(u, UPGRADE_READY, ""))
		inherit_give_up(s, "the old master can't be told that all is ready");
	return true;
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct upgrade *u = container_of(timer, struct upgrade, deadline);

	(void)loop;
	(void)events;
	if (u->state == UPGRADE_RETURNING)
		kill(u->pid, SIGKILL); /* two would be one too many; then its end is seen */
	else
		inherit_give_up(u->supervisor, "the old master did not hand over in time");
}

/* Everything is here. The broker and the old master hear of it before anything of the old one is
 * touched, so that whoever comes after us, should we die, knows how things are. */
static void take_over(struct upgrade *u)
{
	struct supervisor *s = u->supervisor;
	struct manifest_record *r =
	    manifest_find(&s->heritage.manifest, MANIFEST_CONTROL_SOCKET, 0);
	int control = r && r->count == 1 ? manifest_steal(r, 0) : -1;
	char why[200], text[160];

	ev_timer_stop(s->loop, &u->deadline);
	int error = inherit_all(s, why, sizeof(why));
	if (!error) {
		snprintf(why, sizeof(why), "the control socket can't be used");
		error = control_open(s, control, &s->control);
	}
	if (error) {
		inherit_give_up(s, why);
		return;
	}
	u->state = UPGRADE_DONE;
	s->owns = true;
	notify_open(&s->notify);
	child_resume(s->broker);
	child_resume(s->keeper);
	inventory_update(s);
	error = pid_file_write(s->pid_file);
	if (error)
		LOG(s->log, LOG_LEVEL_WARN, "the pid file can't be written", LOG_ERRNO(-error));
	METRIC_ADD(s->cells, UPGRADES, 1, 0);
	snprintf(text, sizeof(text), "margay %s, master %d, generation %u", MARGAY_VERSION,
	    (int)getpid(), s->reload.next->number);
	LOG(s->log, LOG_LEVEL_INFO, "taken over from the old master", LOG_INT("old_pid", u->pid));
	if (tell(u, UPGRADE_SERVING, text))
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "the old master can't be told");
	reload_ready(s);
}

int heir_rollback(struct supervisor *s, char *why, size_t size)
{
	struct upgrade *u = s->upgrade;

	if (!u || u->role != UPGRADE_NEW || u->state != UPGRADE_DONE) {
		snprintf(why, size, "no old master is left: upgrade to its binary instead");
		return -ESRCH;
	}
	if (reload_busy(s) || children_are_replaced(s)) {
		snprintf(why, size, "%s: try again when that is over",
		    reload_busy(s) ? "a reload is under way" : "broker or keeper is replaced");
		return -EBUSY;
	}
	LOG(s->log, LOG_LEVEL_WARN, "rolled back to the old master", LOG_INT("old_pid", u->pid));
	u->state = UPGRADE_RETURNING;
	upgrade_retire(s);
	manifest_unread(&s->manifest, MANIFEST_HEIR);
	ev_timer_set(&u->deadline, return_patience, 0);
	ev_timer_start(s->loop, &u->deadline);
	/* Its end is seen, if that is why it can't be told. */
	if (tell(u, UPGRADE_ROLLBACK, ""))
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "the old master can't be told");
	upgrade_tell(u);
	return 0;
}

/* The old master has ended, or has taken everything back and will not hear of us again. */
static void on_old_gone(struct upgrade *u)
{
	struct supervisor *s = u->supervisor;

	switch (u->state) {
	case UPGRADE_STARTING:
	case UPGRADE_HANDING:
		inherit_give_up(s, "the old master ended before it handed over");
		break;
	case UPGRADE_DONE:
		if (s->state == SUPERVISOR_RETIRED)
			break; /* it has taken over, and needs us no more */
		LOG_TEXT(s->log, LOG_LEVEL_INFO, "the old master has ended");
		upgrade_close(s);
		/* Not before: what is on its way between two of them would be lost with us, and
		 * a rollback would have to bring them back. */
		if (s->state == SUPERVISOR_RUNNING)
			children_replace(s);
		break;
	case UPGRADE_RETURNING:
		upgrade_recover(s);
		control_upgrade_done(s->control, false, "the old master ended meanwhile");
		break;
	}
}

static void on_message(struct upgrade *u, const struct frame *frame, const char *payload)
{
	struct supervisor *s = u->supervisor;
	char text[200];

	if (frame->type != UPGRADE_SERVING || u->state != UPGRADE_RETURNING)
		return;
	snprintf(text, sizeof(text), "%.*s", (int)frame->length, payload);
	notify_tell(&s->notify, "MAINPID=%d", (int)u->pid);
	upgrade_leave(u, frame->target != 0, text);
}

static void on_old(struct ev_loop *loop, ev_io *io, int events)
{
	struct upgrade *u = container_of(io, struct upgrade, io);
	struct manifest *m = &u->supervisor->heritage.manifest;
	char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;

	(void)loop;
	(void)events;
	int status = frame_receive_fds(io->fd, &frame, payload, fds, &count);
	if (status == -EAGAIN)
		return;
	if (status != 1) {
		ev_io_stop(loop, io);
		on_old_gone(u);
		return;
	}
	if (frame.type < MANIFEST_ANEW || frame.type > MANIFEST_END ||
	    u->state != UPGRADE_HANDING) {
		while (count > 0)
			close(fds[--count]);
		on_message(u, &frame, payload);
		return;
	}
	u->dropped +=
	    frame.type == MANIFEST_DROP && frame.length == 1 && payload[0] == MANIFEST_LISTENER;
	status = manifest_take(m, &frame, payload, fds, count);
	if (status == 1)
		take_over(u);
	else if (status < 0)
		inherit_give_up(u->supervisor, "the old master's possessions are not whole");
}
