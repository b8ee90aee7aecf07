/* backoff: see backoff.h. */
#include "common/backoff.h"

static const double jitter = 0.2;

double backoff_failed(struct backoff *b, double lifetime, uint32_t random)
{
	if (lifetime >= b->reset_after)
		b->failures = 0;
	unsigned failures = b->failures++;
	if (failures == 0)
		return 0;
	double delay = b->first;
	while (--failures > 0 && delay < b->max)
		delay *= 2;
	if (delay > b->max)
		delay = b->max;
	return delay * (1 - jitter + 2 * jitter * ((double)random / UINT32_MAX));
}

void backoff_reset(struct backoff *b)
{
	b->failures = 0;
}
