/* cgroup: see cgroup.h. Files of the kernel's, which do not block. */
#include "master/keeper/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MOVE_ROUNDS = 10 };

static const char leaf[] = "margay"; /* of Margay's own processes */

static int write_file(const char *directory, const char *name, const char *text)
{
	char path[CGROUP_PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return error;
}

/* The rest of the first line of a file that begins with `prefix`, up to a space. */
static bool read_line(
    const char *path, const char *prefix, const char *mark, char *out, size_t size)
{
	char line[1024];
	bool found = false;
	FILE *file = fopen(path, "re");

	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, prefix, strlen(prefix)) == 0 && strstr(line, mark);
		if (found)
			snprintf(out, size, "%s", line + strlen(prefix));
	}
	if (file)
		fclose(file);
	out[strcspn(out, " ")] = '\0';
	return found;
}

/* Where the one hierarchy of version 2 is mounted: alone, or beside those of version 1. */
static bool find_root(char out[CGROUP_PATH_MAX])
{
	char mount[CGROUP_PATH_MAX / 2] = "", group[CGROUP_PATH_MAX / 2] = "";

	if (!read_line("/proc/self/mounts", "cgroup2 ", " cgroup2 ", mount, sizeof(mount)) ||
	    !read_line("/proc/self/cgroup", "0::", "0::", group, sizeof(group)))
		return false;
	snprintf(out, CGROUP_PATH_MAX, "%s%s", mount, strcmp(group, "/") == 0 ? "" : group);
	/* The keeper before us has moved already. */
	size_t n = strlen(out), tail = sizeof(leaf);
	if (n > tail && out[n - tail] == '/' && strcmp(out + n - tail + 1, leaf) == 0)
		out[n - tail] = '\0';
	return true;
}

static bool is_delegated(const char *root)
{
	static const char *const names[] = {"user.delegate", "trusted.delegate"};
	char value[8];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (getxattr(root, names[i], value, sizeof(value)) == 1 && value[0] == '1')
			return true;
	}
	return false;
}

/* A group that hands controllers down may hold no process: all of ours move into the leaf. */
static int move_all(const char *root)
{
	char path[CGROUP_PATH_MAX + 64], target[CGROUP_PATH_MAX + 64], pid[32];

	snprintf(target, sizeof(target), "%s/%s", root, leaf);
	if (mkdir(target, 0755) < 0 && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s/cgroup.procs", root);
	for (int round = 0; round < MOVE_ROUNDS; round++) {
		FILE *file = fopen(path, "re");
		bool any = false;
		if (!file)
			return -errno;
		while (fgets(pid, sizeof(pid), file)) {
			any = true;
			/* One that ended meanwhile is no failure. */
			int error = write_file(target, "cgroup.procs", pid);
			if (error && error != -ESRCH) {
				fclose(file);
				return error;
			}
		}
		fclose(file);
		if (!any)
			return 0;
	}
	return -EBUSY;
}

void cgroup_open(struct cgroup *g)
{
	static const char *const controllers[] = {"+memory", "+pids"};

	snprintf(g->text, sizeof(g->text),
	    "rlimits only: no control group is delegated to Margay (systemd: Delegate=yes)");
	if (!find_root(g->root) || !is_delegated(g->root)) {
		g->root[0] = '\0';
		return;
	}
	int error = move_all(g->root);
	for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]) && !error; i++) {
		int failed = write_file(g->root, "cgroup.subtree_control", controllers[i]);
		/* Not there: the rlimit stands for it. */
		error = failed == -EINVAL || failed == -ENOENT ? 0 : failed;
	}
	if (error) {
		snprintf(g->text, sizeof(g->text),
		    "rlimits only: the control group can't be used: %s", strerror(-error));
		g->root[0] = '\0';
		return;
	}
	snprintf(g->text, sizeof(g->text), "control groups below %.120s", g->root);
}

static void child_path(const struct cgroup *g, const char *mark, char out[CGROUP_PATH_MAX + 64])
{
	snprintf(out, CGROUP_PATH_MAX + 64, "%s/child-%s", g->root, mark + strcspn(mark, "=") + 1);
}

int cgroup_join(const struct cgroup *g, const char *mark, const struct config_stdio *stdio)
{
	char path[CGROUP_PATH_MAX + 64], procs[CGROUP_PATH_MAX + 96], value[32];

	if (!g->root[0])
		return -1;
	child_path(g, mark, path);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -1;
	snprintf(value, sizeof(value), "%zu", stdio->memory);
	if (stdio->memory > 0 && write_file(path, "memory.max", value) == 0)
		(void)write_file(path, "memory.oom.group", "1");
	snprintf(value, sizeof(value), "%u", stdio->processes);
	if (stdio->processes > 0)
		(void)write_file(path, "pids.max", value);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	return open(procs, O_WRONLY | O_CLOEXEC);
}

void cgroup_kill(const struct cgroup *g, const char *mark)
{
	char path[CGROUP_PATH_MAX + 64];

	if (!g->root[0])
		return;
	child_path(g, mark, path);
	(void)write_file(path, "cgroup.kill", "1");
}

void cgroup_leave(const struct cgroup *g, const char *mark)
{
	char path[CGROUP_PATH_MAX + 64];

	if (!g->root[0])
		return;
	cgroup_kill(g, mark);
	child_path(g, mark, path);
	(void)rmdir(path);
}
