/* pid_file: see pid_file.h. */
#include "master/supervisor/pid_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PID_TEXT = 24 };

static pid_t read_pid(int fd)
{
	char text[PID_TEXT] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

/* Whether the path still names what we have locked: the last master may have removed it. */
static bool is_there(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
	       ours.st_dev == there.st_dev;
}

int pid_file_open(const char *path, pid_t *other)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_there(fd, path))
		return fd;
	int error = -EEXIST;
	*other = read_pid(fd);
	close(fd);
	return error;
}

int pid_file_write(int fd)
{
	char text[PID_TEXT];
	int n = snprintf(text, sizeof(text), "%d", (int)getpid());

	if (ftruncate(fd, 0) < 0)
		return -errno;
	return pwrite(fd, text, (size_t)n, 0) == n ? 0 : -EIO;
}
