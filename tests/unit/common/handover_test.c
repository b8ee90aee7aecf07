/* handover: what is left is read as it was written, by another version too, and never by half. */
#include "common/handover.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/channel.h"

static int channel[2];
static struct vault left;
static struct handover h;

static void start(void)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, channel), 0);
}

static void finish(void)
{
	handover_release(&h);
	vault_close(&left);
	close(channel[0]);
	close(channel[1]);
}

TestSuite(handover, .init = start, .fini = finish);

/* As the master does it. */
static void hold(void)
{
	char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;

	while (frame_receive_fds(channel[0], &frame, payload, fds, &count) == 1) {
		cr_assert_eq(frame.type, CHANNEL_LEAVE);
		cr_assert_eq(vault_put(&left, frame.target, fds, count), 0);
	}
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

Test(handover, records_and_descriptors_arrive)
{
	const struct span texts[] = {SPAN("first"), {"", 0}, SPAN("a\0b")};
	uint64_t number = 42, got = 0;
	struct handover_reader r;
	struct handover_record record;
	int pipes[2];
	char byte = 0;

	cr_assert_eq(pipe(pipes), 0);
	cr_assert_eq(handover_fd(&h, -1), -1);
	for (int32_t i = 0; i < 9; i++)
		cr_assert_eq(handover_fd(&h, pipes[i % 2]), i);
	handover_put(&h, 7, &number, sizeof(number), texts, 3);
	handover_put(&h, 8, "x", 1, NULL, 0);
	cr_assert_eq(handover_leave(&h, channel[1]), 0);
	hold();
	cr_assert(handover_complete(&left));
	cr_assert(handover_open(&r, &left));
	cr_assert(handover_next(&r, &record));
	cr_assert_eq(record.type, 7);
	handover_head(&record, &got, sizeof(got));
	cr_assert_eq(got, 42);
	cr_assert_eq(record.count, 3);
	for (unsigned i = 0; i < 3; i++)
		cr_assert(span_equal(record.texts[i], texts[i]));
	cr_assert(handover_next(&r, &record));
	cr_assert_eq(record.type, 8);
	cr_assert_eq(record.count, 0);
	cr_assert_not(handover_next(&r, &record));

	int in = handover_take(&r, 8), out = handover_take(&r, 7);
	cr_assert_eq(handover_take(&r, 8), -1, "it was taken");
	cr_assert_eq(handover_take(&r, 9), -1);
	cr_assert_eq(write(out, "!", 1), 1);
	cr_assert_eq(read(in, &byte, 1), 1);
	cr_assert_eq(byte, '!');
	int other = handover_take(&r, 5);
	cr_assert(is_open(other));
	handover_close(&r);
	cr_assert(is_open(in) && is_open(out) && is_open(other), "they are the taker's");
	close(in);
	close(out);
	close(other);
	close(pipes[0]);
	close(pipes[1]);
}

Test(handover, heads_of_other_versions_are_read)
{
	struct {
		uint32_t a, b;
	} two = {1, 2};
	struct {
		uint32_t a, b, c;
	} three = {.c = 9};
	uint32_t one = 0;
	struct handover_reader r;
	struct handover_record record;

	handover_put(&h, 1, &two, sizeof(two), NULL, 0);
	cr_assert_eq(handover_leave(&h, channel[1]), 0);
	hold();
	cr_assert(handover_open(&r, &left));
	cr_assert(handover_next(&r, &record));
	handover_head(&record, &three, sizeof(three));
	cr_assert(three.a == 1 && three.b == 2 && three.c == 0);
	handover_head(&record, &one, sizeof(one));
	cr_assert_eq(one, 1);
	handover_close(&r);
}

Test(handover, what_is_not_complete_is_not_taken_over_and_closed)
{
	struct handover_reader r;
	int pipes[2], dup_of_one;

	cr_assert_not(handover_open(&r, NULL));
	cr_assert_eq(pipe(pipes), 0);
	dup_of_one = dup(pipes[0]);
	cr_assert_eq(vault_put(&left, HANDOVER_TEXT + 1, &dup_of_one, 1), 0);
	cr_assert_not(handover_complete(&left));
	cr_assert_not(handover_open(&r, &left));
	cr_assert_not(is_open(dup_of_one), "its other end must see that it is over");
	close(pipes[0]);
	close(pipes[1]);
}

Test(handover, a_master_that_does_not_listen_is_no_end)
{
	struct frame frame = {.type = CHANNEL_REPORT};

	while (frame_send(channel[1], &frame, NULL, -1) == 0) {
	}
	handover_put(&h, 1, "x", 1, NULL, 0);
	cr_assert_eq(handover_leave(&h, channel[1]), -EAGAIN);
}
