/* notify: see notify.h. */
#include "master/supervisor/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long until the manager gives up, halved, as sd_watchdog_enabled(3) advises. 0: not asked for.
 */
static double watchdog_interval(void)
{
	const char *micros = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!micros || (pid && atol(pid) != (long)getpid()))
		return 0;
	double seconds = (double)strtoull(micros, NULL, 10) / 1e6;
	return seconds > 0 ? seconds / 2 : 0;
}

/* False when it is no address of a Unix socket. */
static bool take_address(struct notify *n, const char *path)
{
	size_t length = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || length < 2 ||
	    length >= sizeof(n->address.sun_path))
		return false;
	n->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(n->address.sun_path, path, length);
	if (path[0] == '@') /* an abstract name */
		n->address.sun_path[0] = '\0';
	n->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	return true;
}

void notify_open(struct notify *n)
{
	const char *path = getenv("NOTIFY_SOCKET");

	*n = (struct notify){.fd = -1};
	if (path && take_address(n, path))
		n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (n->fd >= 0)
		n->watchdog_every = watchdog_interval();
}

void notify_close(struct notify *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

int notify_pass(struct notify *n, const char *text, const int *fds, unsigned count)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(NOTIFY_FDS_MAX * sizeof(int))];
	} control;
	struct iovec line = {(char *)(uintptr_t)text, strlen(text)};
	struct msghdr message = {
	    .msg_name = &n->address, .msg_namelen = n->length, .msg_iov = &line, .msg_iovlen = 1};
	size_t bytes = count * sizeof(*fds);

	if (n->fd < 0 || count > NOTIFY_FDS_MAX)
		return n->fd < 0 ? -ENOTCONN : -EMSGSIZE;
	if (count > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(bytes);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&control.header), fds, bytes);
	}
	return sendmsg(n->fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void notify_tell(struct notify *n, const char *format, ...)
{
	char text[1024];
	va_list arguments;

	if (n->fd < 0)
		return;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length <= 0 || length >= (int)sizeof(text))
		return;
	/* Whether somebody hears it is for the manager to see to. */
	int error = notify_pass(n, text, NULL, 0);
	(void)error;
}

void notify_watchdog(struct notify *n, double now, bool healthy)
{
	if (n->fd < 0 || n->watchdog_every <= 0 || !healthy || now < n->watchdog_at)
		return;
	n->watchdog_at = now + n->watchdog_every;
	notify_tell(n, "WATCHDOG=1");
}
