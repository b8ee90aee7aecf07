/* activation: what the three variables of a service manager say. */
#include "master/supervisor/activation.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SELF = 77 };

static struct activation a;

Test(activation, names_stand_in_the_order_of_the_descriptors)
{
	cr_assert_eq(activation_parse("77", "3", "web::session-key", SELF, &a), 0);
	cr_assert_eq(a.count, 3);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(a.rows[i].fd, 3 + i);
	cr_expect_str_eq(a.rows[0].name, "web");
	cr_expect_str_eq(a.rows[1].name, "");
	cr_expect_str_eq(a.rows[2].name, "session-key");
	free(a.rows);
}

Test(activation, without_names_all_are_unknown)
{
	cr_assert_eq(activation_parse("77", "2", NULL, SELF, &a), 0);
	cr_assert_eq(a.count, 2);
	cr_expect_str_eq(a.rows[1].name, "unknown");
	free(a.rows);
}

Test(activation, what_is_for_another_or_not_there_is_nothing)
{
	static const char *const rows[][2] = {{NULL, NULL}, {"77", NULL}, {NULL, "1"}, {"", "1"},
	    {"78", "1"}, {"78", "x"}, {"77", "0"}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(activation_parse(rows[i][0], rows[i][1], NULL, SELF, &a), 0, "%zu", i);
		cr_expect_eq(a.count, 0, "%zu", i);
	}
}

Test(activation, what_makes_no_sense_is_an_error)
{
	char longest[STORE_ANY_NAME_MAX + 1];
	const char *const rows[][3] = {{"x", "1", NULL}, {"-77", "1", NULL}, {"0", "1", NULL},
	    {"77", "x", NULL}, {"77", "-1", NULL}, {"77", "1 ", NULL}, {"77", "4097", NULL},
	    {"77", "99999999999999999999", NULL}, {"77", "2", "one"}, {"77", "1", "one:two"},
	    {"77", "1", longest}};

	memset(longest, 'a', STORE_ANY_NAME_MAX);
	longest[STORE_ANY_NAME_MAX] = '\0';
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int error = activation_parse(rows[i][0], rows[i][1], rows[i][2], SELF, &a);
		cr_expect_eq(error, -EINVAL, "%zu: %d", i, error);
		cr_expect_null(a.rows);
	}
}

/* Descriptor 3 is the test runner's: a process of its own has it to give away. The exit
 * status is the check that failed, or 0. */
static int in_child(int (*checks)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		char text[16];
		snprintf(text, sizeof(text), "%d", (int)getpid());
		setenv("LISTEN_PID", text, 1);
		setenv("LISTEN_FDS", "1", 1);
		setenv("LISTEN_FDNAMES", "one", 1);
		_exit(checks());
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int check_taken(void)
{
	char why[200];

	if (dup2(open("/dev/null", O_RDONLY), ACTIVATION_FIRST) != ACTIVATION_FIRST)
		return 1;
	if (activation_take(&a, why, sizeof(why)) || a.count != 1 || strcmp(a.rows[0].name, "one"))
		return 2;
	if (!(fcntl(ACTIVATION_FIRST, F_GETFD) & FD_CLOEXEC))
		return 3;
	if (getenv("LISTEN_PID")[0] || getenv("LISTEN_FDS")[0] || getenv("LISTEN_FDNAMES")[0])
		return 4;
	activation_close(&a);
	if (fcntl(ACTIVATION_FIRST, F_GETFD) >= 0)
		return 5;
	return activation_take(&a, why, sizeof(why)) || a.count > 0 ? 6 : 0;
}

Test(activation, the_variables_are_empty_once_they_are_read)
{
	cr_expect_eq(in_child(check_taken), 0);
}

static int check_missing(void)
{
	char why[200];

	close(ACTIVATION_FIRST);
	if (activation_take(&a, why, sizeof(why)) != -EBADF)
		return 1;
	return strcmp(why, "descriptor 3, which LISTEN_FDS counts") != 0 ? 2 : 0;
}

Test(activation, a_descriptor_that_is_not_there_is_named)
{
	cr_expect_eq(in_child(check_missing), 0);
}
