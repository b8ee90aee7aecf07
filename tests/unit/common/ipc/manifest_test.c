/* manifest: what is put is held by the reader, what is dropped is not, and only changes are told.
 */
#include "common/ipc/manifest.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct manifest here, there;
static int ends[2];
static unsigned frames;

static void start(void)
{
	cr_assert_eq(
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

static void finish(void)
{
	manifest_close(&here);
	manifest_close(&there);
	close(ends[0]);
	close(ends[1]);
}

TestSuite(manifest, .init = start, .fini = finish);

static struct span text(const char *string)
{
	return span_of(string);
}

/* All that waits on the socket; the status of the last frame. */
static int take_all(void)
{
	char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX], status = 0;
	unsigned count;

	frames = 0;
	while (frame_receive_fds(ends[1], &frame, payload, fds, &count) == 1) {
		frames++;
		status = manifest_take(&there, &frame, payload, fds, count);
	}
	return status;
}

static int descriptors(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

Test(manifest, is_told_whole_and_then_by_its_changes)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), pair[] = {null, null};

	cr_assert_eq(manifest_put(&here, MANIFEST_LISTENER, 1, text("a"), pair, 2), 0);
	cr_assert_eq(manifest_put(&here, MANIFEST_CHILD, 9, text(""), &null, 1), 0);
	manifest_unread(&here, MANIFEST_HEIR);
	cr_assert_eq(manifest_tell(&here, MANIFEST_HEIR, ends[0]), 0);
	cr_assert_eq(take_all(), 1);
	cr_assert_eq(frames, 4, "anew, two records, end");
	cr_assert_eq(there.count, 2);
	cr_assert_eq(manifest_find(&there, MANIFEST_LISTENER, 1)->count, 2);
	cr_assert_str_eq(manifest_find(&there, MANIFEST_LISTENER, 1)->body, "a");

	cr_assert_eq(manifest_tell(&here, MANIFEST_HEIR, ends[0]), 0);
	take_all();
	cr_assert_eq(frames, 0, "nothing changed");

	int before = descriptors();
	manifest_drop(&here, MANIFEST_CHILD, 9);
	cr_assert_eq(manifest_put(&here, MANIFEST_LISTENER, 1, text("b"), pair, 2), 0);
	cr_assert_eq(manifest_tell(&here, MANIFEST_HEIR, ends[0]), 0);
	cr_assert_eq(take_all(), 1);
	cr_assert_eq(frames, 3, "drop, put, end");
	cr_assert_null(manifest_find(&there, MANIFEST_CHILD, 9));
	cr_assert_str_eq(manifest_find(&there, MANIFEST_LISTENER, 1)->body, "b");
	cr_assert_eq(descriptors(), before - 1, "what was replaced or dropped is closed");
	close(null);
}

Test(manifest, remembers_no_drop_that_concerns_nobody)
{
	for (uint64_t key = 0; key < 100; key++) {
		cr_assert_eq(manifest_put(&here, MANIFEST_CHILD, key, text("a"), NULL, 0), 0);
		cr_assert_eq(manifest_put(&here, MANIFEST_CHILD, key, text("b"), NULL, 0), 0);
		manifest_drop(&here, MANIFEST_CHILD, key);
	}
	cr_assert_eq(here.drop_count, 0);
}

Test(manifest, sweeps_what_was_not_put_again)
{
	cr_assert_eq(manifest_put(&here, MANIFEST_PROCESS, 1, text("x"), NULL, 0), 0);
	cr_assert_eq(manifest_put(&here, MANIFEST_PROCESS, 2, text("y"), NULL, 0), 0);
	cr_assert_eq(manifest_put(&here, MANIFEST_CHILD, 3, text(""), NULL, 0), 0);
	manifest_begin(&here);
	cr_assert_eq(manifest_put(&here, MANIFEST_PROCESS, 2, text("y"), NULL, 0), 0);
	manifest_sweep(&here);
	cr_assert_null(manifest_find(&here, MANIFEST_PROCESS, 1));
	cr_assert_not_null(manifest_find(&here, MANIFEST_PROCESS, 2));
	cr_assert_not_null(manifest_find(&here, MANIFEST_CHILD, 3));
}

Test(manifest, goes_on_where_a_full_socket_stopped_it)
{
	int turns = 0, error;

	for (uint64_t key = 0; key < 2000; key++)
		cr_assert_eq(
		    manifest_put(&here, MANIFEST_CHILD, key, text("some body"), NULL, 0), 0);
	manifest_unread(&here, MANIFEST_HOLDER);
	while ((error = manifest_tell(&here, MANIFEST_HOLDER, ends[0])) == -EAGAIN) {
		take_all();
		turns++;
	}
	cr_assert_eq(error, 0);
	cr_assert_eq(take_all(), 1);
	cr_assert_gt(turns, 0);
	cr_assert_eq(there.count, 2000);
}

Test(manifest, another_version_and_a_missing_record_are_noticed)
{
	uint32_t other[] = {MARGAY_MANIFEST_VERSION + 1, 0},
		 missing[] = {MARGAY_MANIFEST_VERSION, 1};
	struct frame end = {.type = MANIFEST_END, .length = sizeof(other)};

	cr_assert_eq(manifest_take(&there, &end, (const char *)other, NULL, 0), -EBADMSG);
	cr_assert_eq(manifest_take(&there, &end, (const char *)missing, NULL, 0), -EPROTO);
}
