/* leftovers: who is ended, and above all who is not. procfs is tested with it. */
#include "common/leftovers.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/procfs.h"

static struct log *logger;
static int file;

static void start(void)
{
	static const struct log_options nowhere = {
	    .level = LOG_LEVEL_ERROR, .format = LOG_FORMAT_JSON, .file = "/dev/null"};

	cr_assert_eq(log_open(&nowhere, "master", &logger), 0);
	file = memfd_create("children", 0);
}

static void finish(void)
{
	close(file);
	log_close(logger);
}

TestSuite(leftovers, .init = start, .fini = finish);

/* A process with a session of its own that waits for its end. */
static pid_t sleeper(void)
{
	int ready[2];
	char byte;

	cr_assert_eq(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(0);
	}
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static uint64_t started(pid_t pid)
{
	struct procfs_stat stat;

	cr_assert_eq(procfs_stat(pid, &stat), 0);
	cr_expect_eq(stat.pid, pid);
	cr_expect_eq(stat.parent, getpid());
	cr_expect_eq(stat.session, pid);
	cr_expect_eq(stat.group, pid);
	return stat.start_time;
}

static int how_it_ended(pid_t pid)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

Test(leftovers, those_written_down_are_killed_and_the_list_is_emptied)
{
	pid_t one = sleeper(), two = sleeper();

	cr_assert_eq(leftovers_write(file, 0, one, started(one)), 0);
	cr_assert_eq(leftovers_write(file, 3, two, started(two)), 0);
	cr_expect_eq(leftovers_end(file, logger), 2);
	cr_expect_eq(how_it_ended(one), SIGKILL);
	cr_expect_eq(how_it_ended(two), SIGKILL);
	cr_expect_eq(lseek(file, 0, SEEK_END), 0);
	cr_expect_eq(leftovers_end(file, logger), 0);
}

Test(leftovers, another_process_of_the_same_number_is_left_alone)
{
	pid_t one = sleeper();

	cr_assert_eq(leftovers_write(file, 0, one, started(one) - 1), 0);
	cr_expect_eq(leftovers_end(file, logger), 0);
	kill(one, SIGTERM);
	cr_expect_eq(how_it_ended(one), SIGTERM);
}

Test(leftovers, a_row_that_was_cleared_says_nothing)
{
	pid_t one = sleeper();

	cr_assert_eq(leftovers_write(file, 0, one, started(one)), 0);
	cr_assert_eq(leftovers_write(file, 0, 0, 0), 0);
	cr_expect_eq(leftovers_end(file, logger), 0);
	kill(one, SIGTERM);
	cr_expect_eq(how_it_ended(one), SIGTERM);
}

Test(leftovers, rubbish_is_no_list)
{
	static const char rubbish[] = "-1 1\n      -1 00000000000000000000000000000000000000\n\n\n"
				      "   1 1   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";

	cr_assert_eq(write(file, rubbish, sizeof(rubbish)), sizeof(rubbish));
	cr_expect_eq(leftovers_end(file, logger), 0, "neither init nor everybody");
}

Test(leftovers, procfs_tells_of_no_process_and_of_environments)
{
	struct procfs_stat stat;

	cr_expect_eq(procfs_stat(0x7fffff00, &stat), -ENOENT);
	cr_expect_not(procfs_environment_has(getpid(), SPAN("NO_SUCH_VARIABLE=1")));
	cr_expect_not(procfs_environment_has(getpid(), SPAN("")));
	pid_t pid = fork();
	if (pid == 0) {
		char *const argv[] = {(char *)(uintptr_t) "sleep", (char *)(uintptr_t) "60", NULL};
		char *const envp[] = {
		    (char *)(uintptr_t) "A=1", (char *)(uintptr_t) "MARK=x", NULL};
		execve("/bin/sleep", argv, envp);
		_exit(1);
	}
	while (!procfs_environment_has(pid, SPAN("MARK=x")))
		usleep(1000);
	cr_expect_not(procfs_environment_has(pid, SPAN("MARK=")));
	cr_expect_not(procfs_environment_has(pid, SPAN("MARK=xy")));
	kill(pid, SIGKILL);
	how_it_ended(pid);
}
