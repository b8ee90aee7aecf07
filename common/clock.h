/* clock: monotonic time. ev_now() follows the wall clock, so it is for dates only. */
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

/* A few milliseconds coarse and almost free. */
static inline uint64_t clock_coarse_nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The same in seconds: for deadlines, which must not follow a clock that is set. */
static inline double clock_coarse(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
