/*
 * leftovers: the children of stdio upstreams, written down, for the case that the master and the
 * keeper die at once and nobody is left to end them.
 *
 * A file in runtime_dir, one row of fixed width for each child: pid and start time, which together
 * name one process for ever. The keeper keeps it, the next master reads it once.
 */
#ifndef MARGAY_COMMON_LEFTOVERS_H
#define MARGAY_COMMON_LEFTOVERS_H

#include <stdint.h>
#include <sys/types.h>

#include "common/log.h"

/* Write row `row`; pid 0 clears it. 0 or -errno. */
int leftovers_write(int fd, unsigned row, pid_t pid, uint64_t start_time) MUST_CHECK;
/* Kill what is left of the children in the file, with all of their sessions, and empty it. How
 * many there were. */
unsigned leftovers_end(int fd, struct log *log);

#endif
