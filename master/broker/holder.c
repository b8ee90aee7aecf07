/* holder: see holder.h. */
#include "master/broker/holder.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "common/attributes.h"
#include "common/ipc/state.h"
#include "common/turn.h"

static void on_heir_writable(struct ev_loop *loop, ev_io *io, int events);

static void frame_drop(struct holder *h, struct holder_frame *f)
{
	STAILQ_REMOVE_HEAD(&h->coming, link);
	while (f->count > 0)
		close(f->fds[--f->count]);
	free(f);
}

/* What a master did not come to end. */
static void forget_coming(struct holder *h)
{
	while (!STAILQ_EMPTY(&h->coming))
		frame_drop(h, STAILQ_FIRST(&h->coming));
}

/* Nobody came, or nobody could use what is here. */
static void let_go(struct holder *h, const char *why)
{
	LOG(h->log, LOG_LEVEL_WARN, "the master is dead: all processes drain and end",
	    LOG_STR("reason", why));
	ev_timer_stop(h->loop, &h->orphan);
	h->whole = false;
	forget_coming(h);
	manifest_close(&h->manifest);
}

static void on_orphan_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("orphan timeout");
	(void)loop;
	(void)events;
	let_go(
	    container_of(timer, struct holder, orphan), "no new master came within orphan_timeout");
}

/* What the master wrote down of itself. NULL: nothing yet. */
static const struct master_record *state_of(const struct holder *h)
{
	const struct manifest_record *r = manifest_find(&h->manifest, MANIFEST_STATE, 0);

	return r && r->length == sizeof(struct master_record) ? (const void *)r->body : NULL;
}

static void unwatch(struct holder *h)
{
	ev_io_stop(h->loop, &h->death);
	if (h->pidfd >= 0)
		close(h->pidfd);
	h->pidfd = -1;
}

static void master_died(struct holder *h)
{
	const struct master_record *state = state_of(h);

	unwatch(h);
	h->dead = true;
	if (!h->whole || !state) {
		let_go(h, "it was stopping, or had not said yet what it owns");
		return;
	}
	LOG(h->log, LOG_LEVEL_ERROR, "the master is dead: serving goes on, start another",
	    LOG_INT("master_pid", h->master),
	    LOG_UINT("orphan_timeout", (uint64_t)state->orphan_timeout));
	ev_timer_set(&h->orphan, state->orphan_timeout, 0);
	ev_timer_start(h->loop, &h->orphan);
}

static void on_master_death(struct ev_loop *loop, ev_io *io, int events)
{
	turn_enter("master");
	(void)loop;
	(void)events;
	master_died(container_of(io, struct holder, death));
}

/* From now on this process is the master. */
static int watch(struct holder *h, pid_t master)
{
	unwatch(h);
	ev_timer_stop(h->loop, &h->orphan);
	h->master = master;
	h->dead = false;
	h->pidfd = pidfd_open(master, 0);
	if (h->pidfd < 0)
		return -errno;
	ev_io_set(&h->death, h->pidfd, EV_READ);
	ev_io_start(h->loop, &h->death);
	return 0;
}

int holder_open(struct holder *h, struct ev_loop *loop, struct log *log)
{
	*h = (struct holder){.loop = loop, .log = log, .pidfd = -1};
	STAILQ_INIT(&h->coming);
	ev_io_init(&h->death, on_master_death, -1, EV_READ);
	ev_io_init(&h->heir, on_heir_writable, -1, EV_WRITE);
	ev_timer_init(&h->orphan, on_orphan_timeout, 0, 0);
	return watch(h, getppid());
}

static void heir_close(struct holder *h)
{
	if (!ev_is_active(&h->heir))
		return;
	ev_io_stop(h->loop, &h->heir);
	close(h->heir.fd);
}

void holder_close(struct holder *h)
{
	heir_close(h);
	unwatch(h);
	ev_timer_stop(h->loop, &h->orphan);
	forget_coming(h);
	manifest_close(&h->manifest);
}

/* Takes the descriptors. 0 or -ENOMEM; then the next END will not fit. */
static int keep(struct holder *h, const struct frame *frame, const char *payload, const int *fds,
    unsigned count)
{
	struct holder_frame *f = malloc(sizeof(*f) + frame->length);

	if (!f) {
		while (count > 0)
			close(fds[--count]);
		return -ENOMEM;
	}
	f->frame = *frame;
	f->count = count;
	memcpy(f->fds, fds, count * sizeof(*fds));
	memcpy(f->payload, payload, frame->length);
	STAILQ_INSERT_TAIL(&h->coming, f, link);
	return 0;
}

/* All that came since the last END. 0 or -errno. */
static int apply(struct holder *h)
{
	struct holder_frame *f;
	int error = 0;

	while ((f = STAILQ_FIRST(&h->coming))) {
		int status = manifest_take(&h->manifest, &f->frame, f->payload, f->fds, f->count);
		f->count = 0; /* taken */
		error = error ? error : status;
		frame_drop(h, f);
	}
	return error;
}

/* The master that says so is the one whose death counts from now on. */
static void follow(struct holder *h)
{
	const struct master_record *state = state_of(h);

	if (!state || state->pid == h->master)
		return;
	int error = watch(h, state->pid);
	if (error == -ESRCH)
		master_died(h); /* before we have heard its last words */
	else if (error)
		LOG(h->log, LOG_LEVEL_ERROR, "the new master can't be watched", LOG_ERRNO(-error));
}

void holder_take(struct holder *h, const struct frame *frame, const char *payload, const int *fds,
    unsigned count)
{
	int status;

	if (frame->type == MANIFEST_ANEW)
		forget_coming(h);
	if (frame->type == MANIFEST_END) {
		status = apply(h);
		int end = manifest_take(&h->manifest, frame, payload, fds, count);
		status = status ? status : end;
		h->whole = status == 1;
		follow(h);
	} else {
		status = keep(h, frame, payload, fds, count);
	}
	if (status < 0)
		LOG(h->log, LOG_LEVEL_ERROR, "what the master owns can't be held for another",
		    LOG_ERRNO(-status));
}

static bool is_dead(const struct holder *h)
{
	struct pollfd pidfd = {.fd = h->pidfd, .events = POLLIN};

	return h->dead || (h->pidfd >= 0 && poll(&pidfd, 1, 0) == 1);
}

static void on_heir_writable(struct ev_loop *loop, ev_io *io, int events)
{
	struct holder *h = container_of(io, struct holder, heir);
	int error = manifest_tell(&h->manifest, MANIFEST_HEIR, io->fd);

	turn_enter("heir");
	(void)loop;
	(void)events;
	if (error == -EAGAIN)
		return;
	/* It says so on the channel that it has got when it serves. */
	if (error)
		LOG(h->log, LOG_LEVEL_ERROR, "a new master could not be told all",
		    LOG_ERRNO(-error));
	heir_close(h);
}

bool holder_serve(struct holder *h, int fd)
{
	const struct master_record *state = state_of(h);

	if (!is_dead(h) || !h->whole || !state)
		return false;
	heir_close(h);
	/* Somebody came. */
	if (ev_is_active(&h->orphan)) {
		ev_timer_stop(h->loop, &h->orphan);
		ev_timer_set(&h->orphan, state->orphan_timeout, 0);
		ev_timer_start(h->loop, &h->orphan);
	}
	manifest_unread(&h->manifest, MANIFEST_HEIR);
	ev_io_set(&h->heir, fd, EV_WRITE);
	ev_io_start(h->loop, &h->heir);
	return true;
}
