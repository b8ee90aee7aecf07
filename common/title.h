/*
 * title: what `ps` shows of a process: "margay: worker 2 (gen 5)".
 *
 * Linux shows the memory that held argv; what was behind it, the environment, is moved away to make
 * room. libbsd's setproctitle leaves a trailing dot on today's kernels.
 */
#ifndef MARGAY_COMMON_TITLE_H
#define MARGAY_COMMON_TITLE_H

#include "common/attributes.h"

/* First thing in main. Without memory for the environment titles stay as they are. */
void title_init(int argc, char **argv);
/* "margay: " goes in front. */
void title_set(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
