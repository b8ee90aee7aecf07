/* stream: frames put together again wherever they were cut, and a peer that is gone or wrong. */
#include "common/ipc/stream.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct ev_loop *loop;
static struct stream s;
static int other;
static unsigned frames, ends;
static size_t bytes;
static char last[64];

static bool on_frame(struct stream *stream, const struct frame *frame, struct span payload)
{
	cr_assert_eq(stream, &s);
	cr_assert_eq(frame->length, payload.n);
	frames++;
	bytes += payload.n;
	size_t n = payload.n < sizeof(last) - 1 ? payload.n : sizeof(last) - 1;
	memcpy(last, payload.p, n);
	last[n] = '\0';
	return true;
}

static void on_ended(struct stream *stream, const char *why)
{
	cr_assert_eq(stream, &s);
	cr_assert_not_null(why);
	ends++;
}

static void start(void)
{
	int pair[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	loop = ev_loop_new(EVFLAG_AUTO);
	s = (struct stream){.frame = on_frame, .ended = on_ended};
	stream_open(&s, loop, pair[0]);
	other = pair[1];
}

static void finish(void)
{
	stream_close(&s);
	close(other);
	ev_loop_destroy(loop);
}

TestSuite(stream, .init = start, .fini = finish);

/* What the other side would read of these puts. */
static size_t wire(char *out, size_t size)
{
	stream_begin(&s, &(struct frame){.type = 3, .request = 9, .target = 77});
	stream_add(&s, SPAN("hello "));
	stream_add(&s, SPAN("world"));
	stream_end(&s);
	stream_put(&s, &(struct frame){.type = 4}, SPAN(""));
	stream_flush(&s);
	ssize_t n = recv(other, out, size, 0);
	cr_assert_eq(n, 2 * sizeof(struct frame) + 11);
	return (size_t)n;
}

Test(stream, frames_arrive_whole_however_they_are_cut)
{
	char text[256];
	size_t n = wire(text, sizeof(text));

	for (size_t cut = 0; cut <= n; cut++) {
		frames = 0;
		cr_assert_eq(send(other, text, cut, 0), (ssize_t)cut);
		ev_run(loop, EVRUN_NOWAIT);
		cr_assert_eq(send(other, text + cut, n - cut, 0), (ssize_t)(n - cut));
		ev_run(loop, EVRUN_NOWAIT);
		ev_run(loop, EVRUN_NOWAIT);
		cr_expect_eq(frames, 2, "cut at %zu", cut);
	}
	cr_expect_eq(ends, 0);
}

Test(stream, a_long_message_waits_for_a_slow_reader_and_is_whole)
{
	static char block[1 << 20];
	struct frame header;
	size_t got = 0;

	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 8; i++)
		stream_put(&s, &(struct frame){.type = 1}, (struct span){block, sizeof(block)});
	stream_flush(&s);
	cr_assert_gt(stream_waiting(&s), 0, "the socket does not take it all");
	for (;;) {
		ssize_t n = recv(other, block, sizeof(block), 0);
		if (n > 0 && got < sizeof(header))
			memcpy(&header, block, sizeof(header));
		got += n > 0 ? (size_t)n : 0;
		if (n <= 0 && stream_waiting(&s) == 0)
			break;
		ev_run(loop, EVRUN_NOWAIT);
	}
	cr_expect_eq(got, 8 * (sizeof(struct frame) + sizeof(block)));
	cr_expect_eq(header.length, sizeof(block));
	cr_expect_leq(s.out.capacity, sizeof(block), "it gives its memory back");
}

Test(stream, a_frame_that_is_none_ends_it)
{
	struct frame wrong[] = {{.magic = 1, .version = FRAME_VERSION},
	    {.magic = FRAME_MAGIC, .version = 9},
	    {.magic = FRAME_MAGIC, .version = FRAME_VERSION, .length = STREAM_MESSAGE_MAX + 1}};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (i > 0)
			start();
		ends = 0;
		cr_assert_eq(send(other, &wrong[i], sizeof(wrong[i]), 0), sizeof(wrong[i]));
		ev_run(loop, EVRUN_NOWAIT);
		cr_expect_eq(ends, 1);
		cr_expect_not(s.open);
		if (i + 1 < sizeof(wrong) / sizeof(wrong[0]))
			finish();
	}
}

Test(stream, a_peer_that_is_gone_is_noticed_by_reading_and_by_writing)
{
	close(other);
	ev_run(loop, EVRUN_NOWAIT);
	cr_expect_eq(ends, 1);
	stream_put(&s, &(struct frame){.type = 1}, SPAN("x"));
	stream_flush(&s);
	cr_expect_eq(ends, 1, "told once");
	ev_loop_destroy(loop);
	start();
	close(other);
	stream_put(&s, &(struct frame){.type = 1}, SPAN("x"));
	stream_flush(&s);
	cr_expect_eq(ends, 2);
	other = dup(0);
}
