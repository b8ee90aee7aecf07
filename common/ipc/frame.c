/* frame: see frame.h. One sendmsg or recvmsg per frame: SEQPACKET keeps the borders. */
#include "common/ipc/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Aligned room for the control message; the padding of one descriptor has room for a second. */
union frame_control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

int frame_send(int socket, const struct frame *frame, const void *payload, int fd)
{
	struct frame header = *frame;
	union frame_control control = {0};

	if (frame->length > FRAME_PAYLOAD_MAX)
		return -EMSGSIZE;
	header.magic = FRAME_MAGIC;
	header.version = FRAME_VERSION;
	struct iovec parts[] = {
	    {.iov_base = &header, .iov_len = sizeof(header)},
	    {.iov_base = (void *)(uintptr_t)payload, .iov_len = frame->length},
	};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = frame->length > 0 ? 2 : 1};
	if (fd >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	for (;;) {
		if (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

/* Take the first descriptor and close any other. False when there was another. */
static bool frame_take_fd(struct msghdr *message, int *fd)
{
	bool single = true;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int one;
			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*fd < 0) {
				*fd = one;
			} else {
				close(one);
				single = false;
			}
		}
	}
	return single;
}

int frame_receive(int socket, struct frame *header, void *payload, int *fd)
{
	union frame_control control;
	struct iovec parts[] = {
	    {.iov_base = header, .iov_len = sizeof(*header)},
	    {.iov_base = payload, .iov_len = FRAME_PAYLOAD_MAX},
	};
	struct msghdr message = {.msg_iov = parts,
	    .msg_iovlen = 2,
	    .msg_control = control.bytes,
	    .msg_controllen = sizeof(control.bytes)};
	ssize_t n;

	*fd = -1;
	do
		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	bool good = frame_take_fd(&message, fd);
	if (n == 0 && *fd < 0)
		return 0;
	if (good && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
	    (size_t)n >= sizeof(*header) && header->magic == FRAME_MAGIC &&
	    header->version == FRAME_VERSION && header->length == (size_t)n - sizeof(*header))
		return 1;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	return -EPROTO;
}
