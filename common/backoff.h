/*
 * backoff: how long to wait before the next try of something that failed.
 *
 * The first failure is retried at once; then the delay doubles from `first` to `max`, with +-20 %
 * jitter. A run that lasted `reset_after` counts as healthy and forgets the past. Pure arithmetic
 * on a monotonic clock and a random number that the caller gives, so tests run in virtual time.
 */
#ifndef MARGAY_COMMON_BACKOFF_H
#define MARGAY_COMMON_BACKOFF_H

#include <stdint.h>

struct backoff {
	double first;       /* seconds, delay of the second try */
	double max;         /* seconds */
	double reset_after; /* seconds of healthy life */
	unsigned failures;  /* in a row */
};

#define BACKOFF_PROCESS ((struct backoff){.first = 0.1, .max = 30, .reset_after = 60})
#define BACKOFF_CONNECT ((struct backoff){.first = 0.01, .max = 1, .reset_after = 5})

/*
 * Something that lived `lifetime` seconds failed. Returns the seconds to wait before the next try;
 * 0 for the first failure. `random` is uniform over all 32-bit values.
 */
double backoff_failed(struct backoff *b, double lifetime, uint32_t random);
void backoff_reset(struct backoff *b);

#endif
