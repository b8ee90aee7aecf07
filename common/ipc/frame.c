/* frame: see frame.h. One sendmsg or recvmsg per frame: SEQPACKET keeps the borders. */
#include "common/ipc/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Aligned room for the control message. */
union frame_control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(FRAME_FDS_MAX * sizeof(int))];
};

int frame_send(int socket, const struct frame *frame, const void *payload, int fd)
{
	return frame_send_fds(socket, frame, payload, &fd, fd >= 0);
}

int frame_send_fds(
    int socket, const struct frame *frame, const void *payload, const int *fds, unsigned count)
{
	struct frame header = *frame;
	union frame_control control = {0};

	if (frame->length > FRAME_PAYLOAD_MAX || count > FRAME_FDS_MAX)
		return -EMSGSIZE;
	header.magic = FRAME_MAGIC;
	header.version = FRAME_VERSION;
	struct iovec parts[] = {
	    {.iov_base = &header, .iov_len = sizeof(header)},
	    {.iov_base = (void *)(uintptr_t)payload, .iov_len = frame->length},
	};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = frame->length > 0 ? 2 : 1};
	if (count > 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	for (;;) {
		if (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

/* Take the descriptors that fit and close any other. False when there was another. */
static bool take_fds(struct msghdr *message, int fds[FRAME_FDS_MAX], unsigned *count)
{
	bool all = true;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < got; i++) {
			int one;
			memcpy(&one, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*count < FRAME_FDS_MAX) {
				fds[(*count)++] = one;
			} else {
				close(one);
				all = false;
			}
		}
	}
	return all;
}

int frame_receive_fds(
    int socket, struct frame *header, void *payload, int fds[FRAME_FDS_MAX], unsigned *count)
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

	*count = 0;
	do
		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	bool good = take_fds(&message, fds, count);
	if (n == 0 && *count == 0)
		return 0;
	if (good && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
	    (size_t)n >= sizeof(*header) && header->magic == FRAME_MAGIC &&
	    header->version == FRAME_VERSION && header->length == (size_t)n - sizeof(*header))
		return 1;
	while (*count > 0)
		close(fds[--*count]);
	return -EPROTO;
}

int frame_receive(int socket, struct frame *header, void *payload, int *fd)
{
	int fds[FRAME_FDS_MAX];
	unsigned count;
	int status = frame_receive_fds(socket, header, payload, fds, &count);

	*fd = count == 1 ? fds[0] : -1;
	if (count <= 1)
		return status;
	while (count > 0)
		close(fds[--count]);
	return -EPROTO;
}
