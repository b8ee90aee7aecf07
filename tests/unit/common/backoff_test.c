/* backoff: at once, then doubling to the maximum, with jitter; forgotten after a healthy life. */
#include "common/backoff.h"

#include <criterion/criterion.h>

Test(backoff, doubles_from_the_second_failure_to_the_maximum)
{
	struct backoff b = BACKOFF_PROCESS;
	double expected = 0.1;

	cr_assert_eq(backoff_failed(&b, 0, 0), 0);
	for (int i = 0; i < 40; i++) {
		double low = backoff_failed(&b, 0, 0);
		cr_assert_float_eq(low, expected * 0.8, 1e-9, "%d: %f", i, low);
		expected = expected * 2 < 30 ? expected * 2 : 30;
	}
}

Test(backoff, jitter_stays_within_a_fifth)
{
	struct backoff low = BACKOFF_PROCESS, high = BACKOFF_PROCESS;

	low.failures = high.failures = 3;
	double shortest = backoff_failed(&low, 0, 0);
	double longest = backoff_failed(&high, 0, UINT32_MAX);
	cr_assert_float_eq(shortest, 0.32, 1e-9);
	cr_assert_float_eq(longest, 0.48, 1e-9);
}

Test(backoff, a_healthy_life_is_a_fresh_start)
{
	struct backoff b = BACKOFF_PROCESS;

	for (int i = 0; i < 10; i++)
		(void)backoff_failed(&b, 59.9, 0);
	cr_assert_gt(backoff_failed(&b, 59.9, 0), 0);
	cr_assert_eq(backoff_failed(&b, 60, 0), 0);
}
