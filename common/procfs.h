/* procfs: what /proc tells of a process. Reading it does not block. */
#ifndef MARGAY_COMMON_PROCFS_H
#define MARGAY_COMMON_PROCFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/attributes.h"
#include "common/span.h"

struct procfs_stat {
	pid_t pid, parent, group, session;
	char state;
	uint64_t
	    start_time;    /* clock ticks after boot: with the pid it names one process for ever */
	uint64_t resident; /* bytes */
	uid_t owner;
};

/* 0, or -errno: -ENOENT when there is no such process. */
int procfs_stat(pid_t pid, struct procfs_stat *out) MUST_CHECK;
/* How many descriptors its table has room for: all that are open have lower numbers. Or -errno. */
int procfs_descriptors(pid_t pid) MUST_CHECK;
/* Call `each` for every process there is, in no order. 0 or -errno. */
int procfs_each(
    void (*each)(void *context, const struct procfs_stat *process), void *context) MUST_CHECK;
/* Whether the environment that a process was started with holds exactly this NAME=VALUE. */
bool procfs_environment_has(pid_t pid, struct span variable);

#endif
