/* spawn: what a child finds when it starts, and what is told when it can't. */
#include "master/keeper/spawn.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/procfs.h"

static char output[8192];

static struct config_stdio program(const char *command, char **args, size_t count)
{
	return (struct config_stdio){
	    .command = (char *)(uintptr_t)command, .args = args, .arg_count = count, .files = 128};
}

static size_t read_all(int fd, char *out, size_t size)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	size_t n = 0;
	ssize_t got;

	do {
		cr_assert_eq(poll(&ready, 1, 10000), 1);
		got = read(fd, out + n, size - 1 - n);
		n += got > 0 ? (size_t)got : 0;
	} while (got > 0 || (got < 0 && errno == EAGAIN));
	out[n] = '\0';
	return n;
}

static void finish(struct spawned *s)
{
	close(s->in);
	close(s->out);
	close(s->err);
	close(s->report);
	kill(s->pid, SIGKILL);
	cr_assert_eq(waitpid(s->pid, NULL, 0), s->pid);
}

/* Run it to its end; its stdout is in `output`. What the report says, or "". */
static const char *run(const struct config_stdio *stdio)
{
	static char text[200];
	struct spawn_failure failure;
	struct spawned s;
	char why[200];

	cr_assert_eq(spawn_start(stdio, "MARK=m", -1, &s, why, sizeof(why)), 0);
	read_all(s.out, output, sizeof(output));
	text[0] = '\0';
	if (read(s.report, &failure, sizeof(failure)) == (ssize_t)sizeof(failure))
		spawn_failure_text(&failure, text, sizeof(text));
	finish(&s);
	return text;
}

static const char *shell(char *script, struct config_stdio *stdio)
{
	static char flag[] = "-c";
	char *args[] = {flag, script};
	struct config_stdio one = program("/bin/sh", args, 2);

	if (stdio) {
		one = *stdio;
		one.args = args;
		one.arg_count = 2;
	}
	return run(&one);
}

Test(spawn, tells_what_failed_and_why)
{
	struct config_stdio lost = program("/nonexistent/program", NULL, 0);
	struct config_stdio nowhere = program("/bin/true", NULL, 0);

	nowhere.cwd = (char *)(uintptr_t) "/nonexistent/directory";
	cr_expect_str_eq(run(&lost), "can't be executed: No such file or directory");
	cr_expect_str_eq(run(&nowhere), "can't enter its cwd: No such file or directory");
	cr_expect_str_eq(shell((char[]){"exit 3"}, NULL), "", "what ran has no failure");
}

Test(spawn, gives_three_descriptors_default_signals_and_limits)
{
	int leak = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */

	signal(SIGPIPE, SIG_IGN);
	cr_expect_str_eq(
	    shell((char[]){"ls -m /proc/$$/fd; ulimit -n; ulimit -c; umask; "
			   "pwd; exec grep -E 'SigBlk|SigIgn|NoNewPrivs' /proc/self/status"},
		NULL),
	    "");
	close(leak);
	cr_expect_str_eq(output, "0, 1, 2\n128\n0\n0077\n/\nSigBlk:\t0000000000000000\nSigIgn:\t"
				 "0000000000000000\nNoNewPrivs:\t1\n");
}

Test(spawn, gives_the_environment_that_it_was_told)
{
	char name[] = "MARGAY_LISTED", key[] = "KEY", value[] = "a ${env:MARGAY_HIDDEN} b";
	char *inherit[] = {name};
	struct config_variable env[] = {{key, value}};
	struct config_stdio stdio = program("/bin/sh", NULL, 0);

	clearenv();
	setenv("PATH", "/usr/bin:/bin", 1);
	setenv("MARGAY_LISTED", "yes", 1);
	setenv("MARGAY_HIDDEN", "secret", 1);
	setenv("KEY", "ours", 1);
	stdio.inherit = inherit;
	stdio.inherit_count = 1;
	stdio.env = env;
	stdio.env_count = 1;
	cr_expect_str_eq(shell((char[]){"env | grep -vE '^(_|PWD|SHLVL)=' | sort"}, &stdio), "");
	cr_expect_str_eq(output, "KEY=a secret b\nMARGAY_LISTED=yes\nMARK=m\nPATH=/usr/bin:/bin\n");
	unsetenv("MARGAY_HIDDEN");
	struct spawned s;
	char why[200];
	cr_expect_eq(spawn_start(&stdio, "MARK=m", -1, &s, why, sizeof(why)), -EINVAL);
	cr_expect_str_eq(why, "`${env:MARGAY_HIDDEN}`: the variable is not set");
}

Test(spawn, gives_all_but_what_is_the_masters)
{
	char all[] = "*";
	char *inherit[] = {all};
	struct config_stdio stdio = program("/bin/sh", NULL, 0);

	clearenv();
	setenv("PATH", "/usr/bin:/bin", 1);
	setenv("NOTIFIED", "yes", 1);
	setenv("NOTIFY_SOCKET", "/run/notify", 1);
	setenv("WATCHDOG_USEC", "1", 1);
	setenv("LISTEN_FDS", "1", 1);
	stdio.inherit = inherit;
	stdio.inherit_count = 1;
	cr_expect_str_eq(shell((char[]){"env | grep -vE '^(_|PWD|SHLVL)=' | sort"}, &stdio), "");
	cr_expect_str_eq(output, "MARK=m\nNOTIFIED=yes\nPATH=/usr/bin:/bin\n");
}

Test(spawn, gives_a_session_and_a_group_and_pipes_that_do_not_block_us)
{
	char seconds[] = "60";
	char *args[] = {seconds};
	struct config_stdio stdio = program("/bin/sleep", args, 1);
	struct procfs_stat stat;
	struct spawned s;
	char why[200], byte;

	cr_assert_eq(spawn_start(&stdio, "MARK=m", -1, &s, why, sizeof(why)), 0);
	struct pollfd running = {.fd = s.report, .events = POLLIN};
	cr_assert_eq(poll(&running, 1, 10000), 1, "the report ends when the program runs");
	cr_expect_eq(read(s.report, &byte, 1), 0);
	cr_assert_eq(procfs_stat(s.pid, &stat), 0);
	cr_expect(stat.session == s.pid && stat.group == s.pid);
	cr_expect_eq(stat.start_time, s.start_time);
	cr_expect(procfs_environment_has(s.pid, SPAN("MARK=m")));
	const int ours[] = {s.in, s.out, s.err};
	for (int i = 0; i < 3; i++) {
		cr_expect(fcntl(ours[i], F_GETFL) & O_NONBLOCK);
		cr_expect(fcntl(ours[i], F_GETFD) & FD_CLOEXEC);
	}
	finish(&s);
}
