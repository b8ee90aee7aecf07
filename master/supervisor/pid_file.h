/*
 * pid_file: runtime_dir/margay.pid. Its lock says that a master lives, its text which.
 *
 * The lock (flock(2)) belongs to the open file, so that an upgrade can hand it on: who has the
 * descriptor has the lock, and it is free when the last such process is dead.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_PID_FILE_H
#define MARGAY_MASTER_SUPERVISOR_PID_FILE_H

#include <sys/types.h>

#include "common/attributes.h"

/* Open and lock. The descriptor; -EEXIST when another master lives, *other its pid or 0; else
 * -errno. */
int pid_file_open(const char *path, pid_t *other) MUST_CHECK;
/* We are the master. 0 or -errno. */
int pid_file_write(int fd) MUST_CHECK;

#endif
