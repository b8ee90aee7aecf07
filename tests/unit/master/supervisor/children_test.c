/* children: a process of another master is what it is said to be, and one that ended is told of no
 * more. */
#include "master/supervisor/children.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

Test(children, are_known_by_their_pidfd_and_their_channel)
{
	int seqpacket[2], stream[2], pipes[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, seqpacket), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream), 0);
	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	cr_assert_geq(pidfd, 0);
	cr_expect(child_is(seqpacket[0], pidfd, pid));
	cr_expect_not(child_is(seqpacket[0], pidfd, getpid()), "another process");
	cr_expect_not(child_is(seqpacket[0], pipes[0], pid), "no pidfd");
	cr_expect_not(child_is(seqpacket[0], -1, pid), "nothing");
	cr_expect_not(child_is(stream[0], pidfd, pid), "no channel");
	cr_expect_not(child_is(pipes[0], pidfd, pid), "no socket");
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_expect(child_is(seqpacket[0], pidfd, pid), "its end is still to be seen");
	const int fds[] = {
	    pidfd, seqpacket[0], seqpacket[1], stream[0], stream[1], pipes[0], pipes[1]};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		close(fds[i]);
}

/* Or telling another master of it would fail, and end half way. */
Test(children, one_that_ended_is_in_no_manifest)
{
	struct supervisor s = {.loop = ev_default_loop(0)};
	struct process_record state = {.pid = 12345, .state = CHILD_ACCEPTING};
	int channel[2], pipes[2], ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	struct child *c = child_create(&s, ROLE_BROKER, NULL, 0);
	child_inherit(c, &state, channel[0], pipes[0]);
	cr_assert_eq(manifest_put(&s.manifest, MANIFEST_PROCESS, 12345, SPAN("it"),
			 (int[]){channel[0], pipes[0]}, 2),
	    0);
	manifest_unread(&s.manifest, MANIFEST_HEIR);
	child_disown(c);
	cr_expect_eq(fcntl(channel[0], F_GETFD), -1);
	cr_expect_null(manifest_find(&s.manifest, MANIFEST_PROCESS, 12345));
	cr_expect_eq(manifest_tell(&s.manifest, MANIFEST_HEIR, ends[0]), 0);
	child_free(c);
	manifest_close(&s.manifest);
	const int fds[] = {channel[1], pipes[1], ends[0], ends[1]};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		close(fds[i]);
}
