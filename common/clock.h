/* clock: monotonic time for durations; ev_now() is for deadlines inside a loop. */
#ifndef MARGAY_COMMON_CLOCK_H
#define MARGAY_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_microseconds(void)
{
	return clock_nanoseconds() / 1000;
}

#endif
