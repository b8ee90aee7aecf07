/*
 * latency: microseconds, counted in log-linear cells of at most 1/64 of their value.
 *
 * Finer than the histograms Margay exports (common/metrics/histogram.h, 25 %), in 16 KiB. Values
 * from about an hour on count in the last cell; the maximum is exact.
 */
#ifndef MARGAY_TESTS_LOAD_LATENCY_H
#define MARGAY_TESTS_LOAD_LATENCY_H

#include <stdint.h>

enum { LATENCY_FINE_BITS = 6, LATENCY_CELLS = (32 - LATENCY_FINE_BITS + 1) << LATENCY_FINE_BITS };

struct latency {
	uint64_t count, max;
	uint64_t cells[LATENCY_CELLS];
};

void latency_add(struct latency *l, uint64_t microseconds);
/* The largest value of the cell below or in which that share (0 to 1) of all values lies; 0 when
 * there are none. */
uint64_t latency_quantile(const struct latency *l, double share);

#endif
