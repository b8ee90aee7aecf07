/* holder: what a master told to its END is held, and handed over when that master is dead. */
#include "master/broker/holder.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/state.h"

static struct ev_loop *loop;
static struct log *logger;
static struct holder holder;
static struct manifest master; /* what the master has */
static int channel[2], heir[2];
static pid_t pid; /* of a master that does nothing */

static void begin(void)
{
	struct log_options options = {.level = LOG_LEVEL_ERROR, .file = "/dev/null"};

	cr_assert_eq(log_open(&options, "broker", &logger), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, channel), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, heir), 0);
	loop = ev_loop_new(EVFLAG_AUTO);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	cr_assert_eq(holder_open(&holder, loop, logger), 0);
	manifest_unread(&master, MANIFEST_HOLDER);
}

static void end(void)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	holder_close(&holder);
	manifest_close(&master);
	ev_loop_destroy(loop);
	log_close(logger);
}

TestSuite(holder, .init = begin, .fini = end, .timeout = 20);

static void put_state(double orphan_timeout)
{
	struct master_record state = {.pid = pid, .orphan_timeout = orphan_timeout};

	cr_assert_eq(manifest_put(&master, MANIFEST_STATE, 0,
			 (struct span){(const char *)&state, sizeof(state)}, NULL, 0),
	    0);
}

static void put(uint64_t key)
{
	cr_assert_eq(manifest_put(&master, MANIFEST_CHILD, key, (struct span){"", 0}, NULL, 0), 0);
}

/* Give the holder up to `most` of the frames that the master has sent. */
static void hear(int most)
{
	static char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;

	while (most-- > 0 && frame_receive_fds(channel[1], &frame, payload, fds, &count) == 1)
		holder_take(&holder, &frame, payload, fds, count);
}

static void tell(void)
{
	cr_assert_eq(manifest_tell(&master, MANIFEST_HOLDER, channel[0]), 0);
}

static void kill_master(void)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ev_run(loop, EVRUN_ONCE);
	cr_assert(holder.dead);
}

/* What an heir is told: how many records; -1: it is refused. */
static int inherit(void)
{
	static char payload[FRAME_PAYLOAD_MAX];
	struct manifest got = {0};
	struct frame frame;
	int fds[FRAME_FDS_MAX], status = 0;
	unsigned count;

	if (!holder_serve(&holder, dup(heir[0])))
		return -1;
	ev_run(loop, EVRUN_ONCE);
	while (status == 0 && frame_receive_fds(heir[1], &frame, payload, fds, &count) == 1)
		status = manifest_take(&got, &frame, payload, fds, count);
	cr_assert_eq(status, 1);
	int records = (int)got.count;
	manifest_close(&got);
	return records;
}

Test(holder, refuses_everybody_while_the_master_lives)
{
	put_state(60);
	tell();
	hear(100);
	cr_assert(holder.whole);
	cr_assert_eq(inherit(), -1);
	kill_master();
	cr_assert_eq(inherit(), 1);
	/* The first may fail: another gets the same. */
	cr_assert_eq(inherit(), 1);
}

Test(holder, refuses_what_was_never_whole)
{
	put_state(60);
	put(1);
	tell();
	hear(2); /* ANEW and a record */
	cr_assert_not(holder.whole);
	cr_assert_eq(inherit(), -1);
}

Test(holder, hands_over_what_was_true_at_the_last_end)
{
	put_state(60);
	put(1);
	tell();
	hear(100);
	put(2);
	manifest_drop(&master, MANIFEST_CHILD, 1);
	tell();
	hear(1); /* the drop, without what is in its place */
	kill_master();
	cr_assert_not_null(manifest_find(&holder.manifest, MANIFEST_CHILD, 1));
	cr_assert_eq(inherit(), 2);
	hear(100);
	cr_assert_null(manifest_find(&holder.manifest, MANIFEST_CHILD, 1));
	cr_assert_not_null(manifest_find(&holder.manifest, MANIFEST_CHILD, 2));
}

Test(holder, keeps_the_old_copy_until_a_successor_has_told_all)
{
	put_state(60);
	put(1);
	tell();
	hear(100);
	kill_master();
	manifest_unread(&master, MANIFEST_HOLDER);
	tell();
	hear(2);
	cr_assert(holder.dead, "the successor is not the master yet");
	cr_assert_eq(inherit(), 2);
	/* That one died, and the next begins from the start. */
	manifest_unread(&master, MANIFEST_HOLDER);
	tell();
	hear(100);
	cr_assert(holder.whole);
	cr_assert_eq(holder.manifest.count, 2);
}

Test(holder, hears_of_a_successor_after_its_death)
{
	put_state(0.05);
	put(1);
	tell();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	hear(100);
	cr_assert(holder.dead);
	cr_assert_eq(inherit(), 2);
	/* It is waited for, and not for ever. */
	while (holder.whole)
		ev_run(loop, EVRUN_ONCE);
	cr_assert_eq(inherit(), -1);
}

Test(holder, lets_go_after_orphan_timeout_for_good)
{
	int pipes[2];

	cr_assert_eq(pipe(pipes), 0);
	put_state(0.05);
	cr_assert_eq(
	    manifest_put(&master, MANIFEST_CHILD, 1, (struct span){"", 0}, &pipes[1], 1), 0);
	tell();
	hear(100);
	close(pipes[1]);
	kill_master();
	cr_assert_eq(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);
	cr_assert_eq(read(pipes[0], &(char){0}, 1), -1, "somebody holds its other end");
	ev_run(loop, EVRUN_ONCE);
	cr_assert_eq(read(pipes[0], &(char){0}, 1), 0, "nobody does");
	cr_assert_eq(inherit(), -1);
}

Test(holder, lets_go_at_once_of_a_master_that_withdrew)
{
	put_state(60);
	put(1);
	tell();
	hear(100);
	manifest_close(&master);
	manifest_unread(&master, MANIFEST_HOLDER);
	tell();
	hear(100);
	kill_master();
	cr_assert_eq(holder.manifest.count, 0);
	cr_assert_eq(inherit(), -1);
}
