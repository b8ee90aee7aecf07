/* leftovers: see leftovers.h. */
#include "common/leftovers.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/procfs.h"

enum { ROW = 32, ROWS_MAX = 65536 };

struct leftover {
	pid_t pid;
	uint64_t start_time;
};

struct sweep {
	struct leftover *rows;
	size_t count;
	struct log *log;
	unsigned killed;
};

int leftovers_write(int fd, unsigned row, pid_t pid, uint64_t start_time)
{
	char text[ROW + 1];

	if (row >= ROWS_MAX)
		return -ENOSPC;
	snprintf(text, sizeof(text), "%10d %20" PRIu64 "\n", (int)pid, start_time);
	return pwrite(fd, text, ROW, (off_t)row * ROW) == ROW ? 0 : -EIO;
}

/* A process belongs to a child when it is that very process, or of the session that it led. */
static bool belongs(const struct leftover *row, const struct procfs_stat *process)
{
	if (process->pid == row->pid)
		return process->start_time == row->start_time;
	return process->session == row->pid && process->start_time >= row->start_time;
}

static void kill_leftover(void *context, const struct procfs_stat *process)
{
	struct sweep *s = context;

	for (size_t i = 0; i < s->count; i++) {
		if (!belongs(&s->rows[i], process) || process->state == 'Z')
			continue;
		if (kill(process->pid, SIGKILL) == 0) {
			s->killed++;
			LOG(s->log, LOG_LEVEL_WARN, "ended a child that an earlier Margay left",
			    LOG_INT("child_pid", process->pid));
		}
		return;
	}
}

static size_t read_rows(int fd, struct leftover *rows, size_t max)
{
	char text[ROW + 1];
	size_t count = 0;
	int pid;

	for (unsigned i = 0; i < ROWS_MAX && count < max; i++) {
		if (pread(fd, text, ROW, (off_t)i * ROW) != ROW)
			break;
		text[ROW] = '\0';
		struct leftover *row = &rows[count];
		if (sscanf(text, "%d %" SCNu64, &pid, &row->start_time) == 2 && pid > 1) {
			row->pid = pid;
			count++;
		}
	}
	return count;
}

/* A row whose number now names another process says nothing about its session either. */
static void drop_reused(struct sweep *s)
{
	struct procfs_stat process;
	size_t kept = 0;

	for (size_t i = 0; i < s->count; i++) {
		bool reused = procfs_stat(s->rows[i].pid, &process) == 0 &&
			      process.start_time != s->rows[i].start_time;
		if (!reused)
			s->rows[kept++] = s->rows[i];
	}
	s->count = kept;
}

unsigned leftovers_end(int fd, struct log *log)
{
	struct stat status;
	struct sweep s = {.log = log};

	if (fstat(fd, &status) < 0 || status.st_size < ROW)
		return 0;
	size_t max = (size_t)status.st_size / ROW;
	s.rows = calloc(max, sizeof(*s.rows));
	if (s.rows) {
		s.count = read_rows(fd, s.rows, max);
		drop_reused(&s);
		if (s.count > 0 && procfs_each(kill_leftover, &s))
			LOG_TEXT(log, LOG_LEVEL_ERROR,
			    "children of an earlier Margay can't be looked for: no /proc");
	}
	free(s.rows);
	if (ftruncate(fd, 0) < 0)
		LOG(log, LOG_LEVEL_WARN, "the list of children can't be emptied", LOG_ERRNO(errno));
	return s.killed;
}
