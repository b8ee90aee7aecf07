/* order: what is next, a gap, a repeat. */
#include "tests/load/driver/order.h"

#include <criterion/criterion.h>

Test(load_order, tells_gaps_and_repeats)
{
	static const struct {
		const char *id;
		enum order_verdict verdict;
		const char *last;
	} rows[] = {
	    {"41", ORDER_NEXT, "41"}, /* the first may be any */
	    {"42", ORDER_NEXT, "42"},
	    {"42", ORDER_REPEAT, "42"},
	    {"40", ORDER_REPEAT, "42"},
	    {"44", ORDER_GAP, "44"},
	    {"45", ORDER_NEXT, "45"},
	    {"", ORDER_UNREADABLE, "45"},
	    {"x", ORDER_UNREADABLE, "45"},
	    {"46x", ORDER_UNREADABLE, "45"},
	    {"s-46", ORDER_NEXT, "s-46"},
	    {"1234567890123456789", ORDER_UNREADABLE, "s-46"},
	    {"47", ORDER_NEXT, "47"},
	};
	struct order o = {0};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(order_take(&o, rows[i].id), rows[i].verdict, "row %zu", i);
		cr_expect_str_eq(o.id, rows[i].last, "row %zu", i);
	}
}
