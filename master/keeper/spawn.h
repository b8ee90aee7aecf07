/*
 * spawn: a program started as a child of the keeper (operations, 5).
 *
 * Own session and process group, three pipes and nothing else open, default signals, no new
 * privileges, limits of the system, its own environment. Nothing of the keeper's reaches it.
 */
#ifndef MARGAY_MASTER_KEEPER_SPAWN_H
#define MARGAY_MASTER_KEEPER_SPAWN_H

#include <stdint.h>
#include <sys/types.h>

#include "common/attributes.h"
#include "common/config/config.h"

struct spawned {
	pid_t pid; /* leads its session and its group */
	uint64_t start_time;
	int in, out, err; /* our ends: non-blocking, close-on-exec */
	int report; /* ends without a byte when the program runs; else holds a spawn_failure */
};

/* What went wrong in the child before the program ran. */
struct spawn_failure {
	int stage; /* for spawn_failure_text */
	int error; /* errno */
};

/*
 * Start it, in the control group behind the descriptor `group` (cgroup.procs) unless that is -1.
 * `mark` ("NAME=VALUE") is put into its environment, so that its descendants can be told.
 * 0 or -errno with `why` filled.
 */
int spawn_start(const struct config_stdio *stdio, const char *mark, int group, struct spawned *out,
    char *why, size_t size) MUST_CHECK;
/* "can't be executed: No such file or directory" */
void spawn_failure_text(const struct spawn_failure *failure, char *out, size_t size);

#endif
