/* order: see order.h. */
#include "tests/load/driver/order.h"

#include <stdlib.h>
#include <string.h>

enum { DIGITS_MAX = 18 };

static bool number_of(const char *id, uint64_t *out)
{
	size_t n = strlen(id);
	size_t digits = 0;

	while (digits < n && id[n - digits - 1] >= '0' && id[n - digits - 1] <= '9')
		digits++;
	if (n >= ORDER_ID_MAX || digits == 0 || digits > DIGITS_MAX)
		return false;
	*out = strtoull(id + n - digits, NULL, 10);
	return true;
}

enum order_verdict order_take(struct order *o, const char *id)
{
	uint64_t number;

	if (!number_of(id, &number))
		return ORDER_UNREADABLE;
	if (o->begun && number <= o->number)
		return ORDER_REPEAT;
	bool next = !o->begun || number == o->number + 1;
	o->begun = true;
	o->number = number;
	memcpy(o->id, id, strlen(id) + 1);
	return next ? ORDER_NEXT : ORDER_GAP;
}
