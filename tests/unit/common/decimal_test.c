/* decimal: numbers as text. */
#include <criterion/criterion.h>

#include "common/decimal.h"

Test(decimal, writes_the_digits)
{
	char text[DECIMAL_TEXT];

	cr_assert(span_equal(decimal(text, 0), SPAN("0")));
	cr_assert(span_equal(decimal(text, 1234567890), SPAN("1234567890")));
	cr_assert(span_equal(decimal(text, UINT64_MAX), SPAN("18446744073709551615")));
}

Test(decimal, pads_with_zeros_and_cuts_in_front)
{
	char text[DECIMAL_TEXT];

	cr_assert(span_equal(decimal_padded(text, 7, 3), SPAN("007")));
	cr_assert(span_equal(decimal_padded(text, 123456, 6), SPAN("123456")));
	cr_assert(span_equal(decimal_padded(text, 98765, 3), SPAN("765")));
}
