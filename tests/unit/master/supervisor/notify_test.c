/* notify: what a service manager hears. */
#include "master/supervisor/notify.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int manager;
static char heard[2048];

/* A manager on an abstract socket, which NOTIFY_SOCKET then names. */
static void open_manager(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char name[64];
	int n = snprintf(name, sizeof(name), "@margay-notify-%d", (int)getpid());

	memcpy(address.sun_path + 1, name + 1, (size_t)n - 1);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(manager, (struct sockaddr *)&address,
			 (socklen_t)(sizeof(address.sun_family) + (size_t)n)),
	    0);
	setenv("NOTIFY_SOCKET", name, 1);
}

static const char *hear(void)
{
	ssize_t n = recv(manager, heard, sizeof(heard) - 1, MSG_DONTWAIT);

	heard[n > 0 ? n : 0] = '\0';
	return heard;
}

Test(notify, says_what_it_is_told)
{
	struct notify n;

	open_manager();
	notify_open(&n);
	notify_tell(&n, "READY=1\nSTATUS=generation %u", 3);
	cr_expect_str_eq(hear(), "READY=1\nSTATUS=generation 3");
	notify_watchdog(&n, 1, true);
	cr_expect_str_eq(hear(), "", "no watchdog was asked for");
	notify_close(&n);
	notify_tell(&n, "STOPPING=1");
	cr_expect_str_eq(hear(), "");
}

Test(notify, passes_as_many_descriptors_as_fit)
{
	char room[CMSG_SPACE(NOTIFY_FDS_MAX * sizeof(int))];
	struct iovec line = {heard, sizeof(heard)};
	struct msghdr message = {
	    .msg_iov = &line, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
	int fds[NOTIFY_FDS_MAX + 1];
	struct notify n;

	open_manager();
	notify_open(&n);
	for (int i = 0; i <= NOTIFY_FDS_MAX; i++)
		fds[i] = manager;
	cr_assert_eq(notify_pass(&n, "FDSTORE=1", fds, NOTIFY_FDS_MAX), 0);
	cr_assert_eq(recvmsg(manager, &message, MSG_DONTWAIT), strlen("FDSTORE=1"));
	cr_expect_not(message.msg_flags & MSG_CTRUNC);
	cr_expect_eq(CMSG_FIRSTHDR(&message)->cmsg_len, CMSG_LEN(NOTIFY_FDS_MAX * sizeof(int)));
	cr_expect_eq(notify_pass(&n, "FDSTORE=1", fds, NOTIFY_FDS_MAX + 1), -EMSGSIZE);
	notify_close(&n);
	cr_expect_eq(notify_pass(&n, "FDSTORE=1", fds, 1), -ENOTCONN);
}

Test(notify, a_manager_that_does_not_read_is_tried_again)
{
	struct notify n;
	int error = 0;

	open_manager();
	notify_open(&n);
	for (int i = 0; i < 100000 && !error; i++)
		error = notify_pass(&n, "FDSTORE=1", NULL, 0);
	cr_expect_eq(error, -EAGAIN);
	notify_close(&n);
}

Test(notify, feeds_the_watchdog_twice_as_often_as_it_must)
{
	struct notify n;
	char pid[16];

	open_manager();
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "4000000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	notify_open(&n);
	notify_watchdog(&n, 10, true);
	cr_expect_str_eq(hear(), "WATCHDOG=1");
	notify_watchdog(&n, 11.9, true);
	cr_expect_str_eq(hear(), "");
	notify_watchdog(&n, 12.1, false);
	cr_expect_str_eq(hear(), "", "one that does not serve is not alive");
	notify_watchdog(&n, 12.2, true);
	cr_expect_str_eq(hear(), "WATCHDOG=1");
	notify_close(&n);
}

Test(notify, another_process_has_the_watchdog)
{
	struct notify n;

	open_manager();
	setenv("WATCHDOG_USEC", "4000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	notify_open(&n);
	notify_watchdog(&n, 10, true);
	cr_expect_str_eq(hear(), "");
	notify_close(&n);
}

Test(notify, what_is_no_address_is_nobody)
{
	static const char *const rows[] = {"", "@", "relative", "/",
	    "/1234567890123456789012345678901234567890123456789012345678901234567890123456789012345"
	    "678901234567890123456789012345"};
	struct notify n;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		setenv("NOTIFY_SOCKET", rows[i], 1);
		notify_open(&n);
		cr_expect_eq(n.fd, -1, "%s", rows[i]);
		notify_tell(&n, "READY=1");
	}
}
