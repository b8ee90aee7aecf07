/* frame: borders, descriptors and every kind of bad frame. */
#include "common/ipc/frame.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int pair[2];
static char payload[FRAME_PAYLOAD_MAX];

static void pair_open(void)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static int receive(struct frame *header, int *fd)
{
	return frame_receive(pair[1], header, payload, fd);
}

TestSuite(frame, .init = pair_open);

Test(frame, carries_payloads_of_every_size_up_to_the_bound)
{
	static char sent[FRAME_PAYLOAD_MAX + 1];
	struct frame header;
	int fd;

	memset(sent, 'x', sizeof(sent));
	const uint32_t sizes[] = {0, 1, 31, 32, 33, FRAME_PAYLOAD_MAX};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct frame f = {
		    .type = 7, .flags = FRAME_REPLY, .request = 9, .length = sizes[i]};
		cr_assert_eq(frame_send(pair[0], &f, sent, -1), 0);
		cr_assert_eq(receive(&header, &fd), 1);
		cr_assert(header.type == 7 && header.flags == FRAME_REPLY && header.request == 9);
		cr_assert_eq(header.length, sizes[i]);
		cr_assert_eq(memcmp(payload, sent, sizes[i]), 0);
		cr_assert_eq(fd, -1);
	}
	struct frame f = {.length = FRAME_PAYLOAD_MAX + 1};
	cr_assert_eq(frame_send(pair[0], &f, sent, -1), -EMSGSIZE);
}

Test(frame, passes_a_descriptor_that_is_closed_on_exec)
{
	struct frame header, f = {.type = 1};
	int fd, ends[2];
	char byte = 0;

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(frame_send(pair[0], &f, NULL, ends[1]), 0);
	cr_assert_eq(receive(&header, &fd), 1);
	cr_assert_geq(fd, 0);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(write(fd, "y", 1), 1);
	cr_assert_eq(read(ends[0], &byte, 1), 1);
	cr_assert_eq(byte, 'y');
}

Test(frame, tells_empty_full_and_gone_apart)
{
	struct frame header, f = {.type = 1, .length = 1000};
	int fd, error;

	cr_assert_eq(receive(&header, &fd), -EAGAIN);
	while ((error = frame_send(pair[0], &f, payload, -1)) == 0)
		;
	cr_assert_eq(error, -EAGAIN);
	while ((error = receive(&header, &fd)) == 1)
		;
	cr_assert_eq(error, -EAGAIN);
	close(pair[0]);
	cr_assert_eq(receive(&header, &fd), 0);
	cr_assert_eq(frame_send(pair[1], &f, payload, -1), -EPIPE);
}

Test(frame, refuses_bad_headers_and_closes_their_descriptor)
{
	const struct frame bad[] = {
	    {.magic = 1, .version = FRAME_VERSION},
	    {.magic = FRAME_MAGIC, .version = FRAME_VERSION + 1},
	    {.magic = FRAME_MAGIC, .version = FRAME_VERSION, .length = 1},
	};
	struct frame header;
	int fd;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(send(pair[0], &bad[i], sizeof(bad[i]), 0), sizeof(bad[i]));
		cr_assert_eq(receive(&header, &fd), -EPROTO);
	}
	const struct frame good = {.magic = FRAME_MAGIC, .version = FRAME_VERSION};
	for (size_t n = 1; n < sizeof(good); n++) {
		cr_assert_eq(send(pair[0], &good, n, 0), (ssize_t)n);
		cr_assert_eq(receive(&header, &fd), -EPROTO);
	}
	int ends[2];
	char byte;
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = {0};
	cr_assert_eq(pipe(ends), 0);
	struct iovec part = {.iov_base = (void *)(uintptr_t)&good, .iov_len = sizeof(good)};
	struct msghdr message = {.msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = control.bytes,
	    .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(c), (int[]){ends[1], ends[1]}, 2 * sizeof(int));
	cr_assert_geq(sendmsg(pair[0], &message, 0), 0);
	close(ends[1]);
	cr_assert_eq(receive(&header, &fd), -EPROTO);
	cr_assert_eq(fd, -1);
	cr_assert_eq(read(ends[0], &byte, 1), 0, "no descriptor may be left open");
}

Test(frame, refuses_a_frame_that_is_longer_than_the_bound)
{
	static char huge[sizeof(struct frame) + FRAME_PAYLOAD_MAX + 1];
	struct frame header;
	struct frame h = {.magic = FRAME_MAGIC, .version = FRAME_VERSION};
	int fd;

	h.length = FRAME_PAYLOAD_MAX + 1;
	memcpy(huge, &h, sizeof(h));
	cr_assert_eq(send(pair[0], huge, sizeof(huge), 0), (ssize_t)sizeof(huge));
	cr_assert_eq(receive(&header, &fd), -EPROTO);
}
