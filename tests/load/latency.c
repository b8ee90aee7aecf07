/* latency: see latency.h. */
#include "tests/load/latency.h"

enum { FINE = 1 << LATENCY_FINE_BITS };

/* Values below FINE have a cell each; above, FINE cells share each power of two. */
static unsigned cell_of(uint64_t value)
{
	if (value < FINE)
		return (unsigned)value;
	unsigned exponent = 63u - (unsigned)__builtin_clzll(value);
	unsigned shift = exponent - LATENCY_FINE_BITS;
	unsigned cell = ((shift + 1) << LATENCY_FINE_BITS) + (unsigned)((value >> shift) % FINE);
	return cell < LATENCY_CELLS ? cell : LATENCY_CELLS - 1;
}

static uint64_t upper_of(unsigned cell)
{
	if (cell < FINE)
		return cell;
	unsigned shift = (cell >> LATENCY_FINE_BITS) - 1;
	return ((uint64_t)(FINE + cell % FINE + 1) << shift) - 1;
}

void latency_add(struct latency *l, uint64_t microseconds)
{
	l->count++;
	l->cells[cell_of(microseconds)]++;
	if (microseconds > l->max)
		l->max = microseconds;
}

uint64_t latency_quantile(const struct latency *l, double share)
{
	double rank = share * (double)l->count;
	uint64_t seen = 0;

	for (unsigned cell = 0; cell < LATENCY_CELLS && l->count > 0; cell++) {
		seen += l->cells[cell];
		if (seen > 0 && (double)seen >= rank)
			return cell == LATENCY_CELLS - 1 || upper_of(cell) > l->max
				   ? l->max
				   : upper_of(cell);
	}
	return l->max;
}
