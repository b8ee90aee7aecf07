/* fleet: when a start may be tried, and that whoever waits for it is not forgotten. */
#include <criterion/criterion.h>

#include "common/clock.h"
#include "tests/unit/master/keeper/bench.h"

static struct bench s;

static void open_bench(void)
{
	bench_open(&s, CONFIG_PER_SESSION);
}

static void close_bench(void)
{
	bench_close(&s);
}

TestSuite(fleet, .init = open_bench, .fini = close_bench);

Test(fleet, waits_longer_with_each_failure_and_then_refuses)
{
	cr_expect_eq(fleet_gate(s.fleet), FLEET_OPEN);
	fleet_failed(s.fleet, "first");
	cr_expect_eq(fleet_gate(s.fleet), FLEET_OPEN, "the first is tried again at once");
	fleet_failed(s.fleet, "second");
	cr_expect_eq(fleet_gate(s.fleet), FLEET_WAIT);
	fleet_failed(s.fleet, "third");
	cr_expect_eq(fleet_gate(s.fleet), FLEET_BROKEN);
	char why[300];
	fleet_gate_text(s.fleet, FLEET_BROKEN, why, sizeof(why));
	cr_expect_not_null(strstr(why, "crash loop: 3 starts in a row failed"));
	cr_expect_not_null(strstr(why, "last: third"));
	s.fleet->retry_at = clock_coarse() - 1;
	cr_expect_eq(fleet_gate(s.fleet), FLEET_OPEN, "half open");
}

Test(fleet, is_full_at_its_limit)
{
	s.fleet->running = 4;
	cr_expect_eq(fleet_gate(s.fleet), FLEET_FULL);
	s.upstream.stdio.sharing = CONFIG_POOL;
	s.upstream.stdio.pool_max = 2;
	s.fleet->running = 2;
	cr_expect_eq(fleet_gate(s.fleet), FLEET_FULL);
	s.fleet->running = 0;
}

/* The timer of the last failure has struck while the coarse clock was still before it. */
Test(fleet, who_waits_after_the_timer_struck_is_served_all_the_same)
{
	fleet_failed(s.fleet, "first");
	fleet_failed(s.fleet, "second");
	ev_timer_stop(s.keeper->loop, &s.fleet->retry);
	cr_assert_eq(fleet_gate(s.fleet), FLEET_WAIT);
	fleet_await(s.fleet);
	cr_expect(ev_is_active(&s.fleet->retry));
	double begun = clock_coarse();
	while (ev_is_active(&s.fleet->retry)) {
		ev_run(s.keeper->loop, EVRUN_ONCE);
		cr_assert_lt(clock_coarse() - begun, 5);
	}
}

Test(fleet, starts_no_more_in_a_turn_than_its_budget)
{
	s.keeper->spawns = KEEPER_SPAWN_BUDGET - 1;
	cr_expect_eq(fleet_gate(s.fleet), FLEET_OPEN);
	s.keeper->spawns = KEEPER_SPAWN_BUDGET;
	cr_expect_eq(fleet_gate(s.fleet), FLEET_WAIT);
}
