/* daemon: see daemon.h. Until the report stderr is the terminal's, so that a failed start says why
 * there. */
#include "master/supervisor/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/exit_code.h"

NORETURN static void wait_for_report(int pipe, pid_t child)
{
	unsigned char code;
	ssize_t n;
	int status;

	do
		n = read(pipe, &code, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(code);
	if (waitpid(child, &status, 0) == child && WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	_exit(EXIT_FAILED);
}

int daemon_detach(int *report)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(ends[1]);
		wait_for_report(ends[0], pid);
	}
	close(ends[0]);
	if (setsid() < 0 || chdir("/") < 0)
		return -errno;
	*report = ends[1];
	return 0;
}

void daemon_report(int report, int exit_code)
{
	unsigned char code = (unsigned char)exit_code;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (write(report, &code, 1) != 1) {
		/* The parent is gone; nobody waits for the code. */
	}
	close(report);
}
