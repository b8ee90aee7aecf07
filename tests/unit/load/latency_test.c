/* latency: how wide the cells are, and the quantiles. */
#include "tests/load/latency.h"

#include <criterion/criterion.h>

Test(load_latency, is_never_off_by_more_than_a_64th)
{
	for (uint64_t value = 0; value < UINT64_C(3000000000); value += value / 50 + 1) {
		struct latency l = {0};
		latency_add(&l, value);
		latency_add(&l, UINT64_C(4000000000)); /* else the maximum would be the answer */
		uint64_t seen = latency_quantile(&l, 0.5);
		cr_expect_geq(seen, value);
		cr_expect_leq(seen, value + value / 64);
	}
}

Test(load_latency, knows_its_quantiles)
{
	struct latency l = {0};

	cr_expect_eq(latency_quantile(&l, 0.99), 0);
	for (uint64_t value = 1; value <= 1000; value++)
		latency_add(&l, value);
	cr_expect_eq(l.count, 1000);
	cr_expect_eq(l.max, 1000);
	cr_expect(latency_quantile(&l, 0.5) >= 500 && latency_quantile(&l, 0.5) <= 508);
	cr_expect(latency_quantile(&l, 0.99) >= 990 && latency_quantile(&l, 0.99) <= 1000);
	cr_expect_eq(latency_quantile(&l, 1), 1000);
	latency_add(&l, UINT64_MAX);
	cr_expect_eq(latency_quantile(&l, 1), UINT64_MAX);
}
