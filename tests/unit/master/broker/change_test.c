/* change: who is waited for, and that a maker may go while others are told. */
#include <criterion/criterion.h>

#include "common/clock.h"
#include "master/broker/change.h"

static struct changes changes;
static struct client *const makers[] = {(struct client *)1, (struct client *)2};
static unsigned confirmed[2];
static bool one_goes; /* the first maker cannot be told: it is gone */

static void confirm(struct client *maker, const struct frame *asked)
{
	(void)asked;
	confirmed[maker == makers[1]]++;
	if (maker == makers[0] && one_goes)
		changes_forget(&changes, maker, 1);
}

static uint32_t begin(unsigned maker, uint64_t waits)
{
	static const struct frame asked = {.type = 1};

	changes.confirm = confirm;
	return change_begin(&changes, makers[maker], &asked, waits);
}

Test(change, each_is_confirmed_when_the_last_has_heard)
{
	uint32_t a = begin(0, 4 | 8), b = begin(1, 4);

	change_heard(&changes, b, 4);
	cr_assert_eq(confirmed[1], 1);
	change_heard(&changes, a, 8);
	change_heard(&changes, a, 8);
	cr_assert_eq(confirmed[0], 0);
	change_heard(&changes, a, 4);
	cr_assert_eq(confirmed[0], 1);
	cr_assert_null(changes.by_number);
}

Test(change, a_maker_may_go_while_its_changes_expire)
{
	for (unsigned i = 0; i < 4; i++)
		cr_assert_neq(begin(i / 2, 4), 0);
	one_goes = true;
	changes_expire(&changes, clock_coarse() + 10);
	cr_assert_eq(confirmed[0], 1, "its second is nobody's");
	cr_assert_eq(confirmed[1], 2);
	cr_assert_null(changes.by_number);
}

Test(change, a_maker_may_go_while_another_is_forgotten)
{
	for (unsigned i = 0; i < 4; i++)
		cr_assert_neq(begin(i / 2, 4), 0);
	cr_assert_neq(begin(1, 1 | 8), 0);
	one_goes = true;
	changes_forget(&changes, NULL, 4);
	cr_assert_eq(confirmed[0], 1);
	cr_assert_eq(confirmed[1], 2);
	change_heard(&changes, 5, 8);
	cr_assert_eq(confirmed[1], 3, "the first maker is not waited for either");
	cr_assert_null(changes.by_number);
}
