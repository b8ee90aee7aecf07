/* procfs: see procfs.h. The format is that of proc(5). */
#include "common/procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENVIRONMENT_MAX = 128 * 1024 };

static ssize_t read_file(pid_t pid, const char *name, char *out, size_t size, uid_t *owner)
{
	char path[64];
	struct stat status;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = 0, total = 0;
	while (
	    (size_t)total < size - 1 && (n = read(fd, out + total, size - 1 - (size_t)total)) > 0)
		total += n;
	int error = n < 0 ? -errno : 0;
	if (owner && fstat(fd, &status) == 0)
		*owner = status.st_uid;
	close(fd);
	out[total] = '\0';
	return error ? error : total;
}

int procfs_stat(pid_t pid, struct procfs_stat *out)
{
	char text[1024];
	long pages = 0;
	int parent = 0, group = 0, session = 0;

	ssize_t n = read_file(pid, "stat", text, sizeof(text), &out->owner);
	if (n < 0)
		return n == -ESRCH ? -ENOENT : (int)n;
	/* The name stands in parentheses and may hold any character. */
	const char *rest = strrchr(text, ')');
	if (!rest || sscanf(rest + 1,
			 " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
			 "%" SCNu64 " %*u %ld",
			 &out->state, &parent, &group, &session, &out->start_time, &pages) != 6)
		return -EPROTO;
	out->pid = pid;
	out->parent = parent;
	out->group = group;
	out->session = session;
	out->resident = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
	return 0;
}

int procfs_descriptors(pid_t pid)
{
	static const char name[] = "\nFDSize:";
	char text[4096];

	ssize_t n = read_file(pid, "status", text, sizeof(text), NULL);
	if (n < 0)
		return (int)n;
	const char *line = strstr(text, name);
	return line ? (int)strtol(line + sizeof(name) - 1, NULL, 10) : -EPROTO;
}

int procfs_each(void (*each)(void *context, const struct procfs_stat *process), void *context)
{
	struct procfs_stat process;
	struct dirent *entry;
	DIR *directory = opendir("/proc");

	if (!directory)
		return -errno;
	while ((entry = readdir(directory))) {
		int pid =
		    entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? atoi(entry->d_name) : 0;
		if (pid > 0 && procfs_stat(pid, &process) == 0)
			each(context, &process);
	}
	closedir(directory);
	return 0;
}

bool procfs_environment_has(pid_t pid, struct span variable)
{
	char *text = malloc(ENVIRONMENT_MAX);
	bool found = false;

	/* Who sets a title of its own leaves empty texts where its environment was. */
	if (!text || variable.n == 0) {
		free(text);
		return false;
	}
	ssize_t n = read_file(pid, "environ", text, ENVIRONMENT_MAX, NULL);
	for (const char *p = text; n > 0 && p < text + n && !found; p += strlen(p) + 1)
		found = span_equal(span_of(p), variable);
	free(text);
	return found;
}
