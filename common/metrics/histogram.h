/*
 * histogram: log-linear cells, four to each power of two.
 *
 * A cell's upper bound is inclusive, as Prometheus' `le` is, and at most 25 % above its lower
 * bound; every power of two is the edge of a cell, so what is exported at powers of two is exact.
 * Values beyond the last cell count in it.
 */
#ifndef MARGAY_COMMON_METRICS_HISTOGRAM_H
#define MARGAY_COMMON_METRICS_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_CELLS = 128 };

static inline unsigned histogram_cell(uint64_t value)
{
	uint64_t v = value > 0 ? value - 1 : 0;

	if (v < 4)
		return (unsigned)v;
	unsigned exponent = 63u - (unsigned)__builtin_clzll(v);
	unsigned cell = (exponent - 1) * 4 + (unsigned)(v >> (exponent - 2) & 3);
	return cell < HISTOGRAM_CELLS ? cell : HISTOGRAM_CELLS - 1;
}

/* The largest value that counts in this cell; the last one is open above. */
static inline uint64_t histogram_upper(unsigned cell)
{
	if (cell < 4)
		return cell + 1;
	return (uint64_t)(5 + cell % 4) << (cell / 4 - 1);
}

#endif
