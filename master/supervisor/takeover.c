/* takeover: the possessions of a master that died, from the broker which holds them. See upgrade.h
 * and master/broker/holder.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/broker_proto.h"
#include "master/supervisor/supervisor.h"
#include "master/supervisor/upgrade.h"

static const double patience = 2; /* seconds */

/* Milliseconds until then, for poll(2). */
static int until(double deadline)
{
	double left = deadline - clock_coarse();

	return left > 0 ? (int)(left * 1000) + 1 : 0;
}

/* What the broker says instead. */
static int refusal(const struct frame *frame, const char *payload)
{
	uint32_t status = BROKER_BAD;

	if (frame->length >= sizeof(status))
		memcpy(&status, payload, sizeof(status));
	return status == BROKER_UNKNOWN ? -EBUSY : -EBADMSG;
}

int takeover_receive(int socket, struct manifest *m, double seconds, int *lock)
{
	char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;
	double deadline = clock_coarse() + seconds;

	for (;;) {
		struct pollfd readable = {.fd = socket, .events = POLLIN};
		int status = frame_receive_fds(socket, &frame, payload, fds, &count);
		if (status == -EAGAIN) {
			int wait = until(deadline);
			if (wait == 0 || (poll(&readable, 1, wait) < 0 && errno != EINTR))
				return -ETIMEDOUT;
			continue;
		}
		if (status != 1)
			return status < 0 ? status : -EPIPE;
		if (frame.type == UPGRADE_LOCK && lock && count == 1) {
			*lock = fds[0];
			continue;
		}
		if (frame.flags & FRAME_REPLY)
			return refusal(&frame, payload);
		status = manifest_take(m, &frame, payload, fds, count);
		if (status != 0)
			return status > 0 ? 0 : status;
	}
}

/* 0; -ENOENT: no broker is there; else -errno. */
static int ask(const struct sockaddr_un *address, struct manifest *m)
{
	uint32_t version = MARGAY_MANIFEST_VERSION;
	struct frame frame = {.type = BROKER_INHERIT, .request = 1, .length = sizeof(version)};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	int error = 0;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		error = errno == ECONNREFUSED ? -ENOENT : -errno;
	if (!error)
		error = frame_send(fd, &frame, &version, -1);
	if (!error)
		error = takeover_receive(fd, m, patience, NULL);
	close(fd);
	return error;
}

static const char *reason_of(int error)
{
	return error == -EBADMSG                         ? "they are of a version that does not fit"
	       : error == -EBUSY                         ? "they are ending already"
	       : error == -ETIMEDOUT || error == -EAGAIN ? "the broker does not answer"
							 : strerror(-error);
}

int takeover_begin(struct supervisor *s, char *why, size_t size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[CONTROL_PATH_MAX];

	if (!control_path(s->runtime_dir, BROKER_SOCKET, path))
		return 0;
	memcpy(address.sun_path, path, sizeof(path));
	/* A master's lock is free a moment before it is dead. */
	double deadline = clock_coarse() + patience;
	int error;
	do {
		manifest_close(&s->heritage.manifest);
		error = ask(&address, &s->heritage.manifest);
		/* A signal may end the wait: the death of that master sends one to its parent. */
	} while (error == -EBUSY && until(deadline) > 0 && poll(NULL, 0, 10) <= 0);
	if (error == -ENOENT) /* the usual start */
		return 0;
	if (!error) {
		s->heritage.alive = true;
		return 0;
	}
	manifest_close(&s->heritage.manifest);
	snprintf(why, size,
	    "processes of a master that died still serve in %.80s, and can't be taken over: %s; "
	    "they end by themselves after orphan_timeout",
	    s->runtime_dir, reason_of(error));
	return error;
}
