/* decimal: an unsigned number as text, for heads and log lines, where printf(3) would cost most. */
#ifndef MARGAY_COMMON_DECIMAL_H
#define MARGAY_COMMON_DECIMAL_H

#include <stdint.h>

#include "common/span.h"

enum { DECIMAL_TEXT = 20 }; /* digits of the largest */

/* The digits of `value`, which stand in `text`. */
static inline struct span decimal(char text[static DECIMAL_TEXT], uint64_t value)
{
	char *p = text + DECIMAL_TEXT;

	do
		*--p = (char)('0' + value % 10);
	while (value /= 10);
	return (struct span){p, (size_t)(text + DECIMAL_TEXT - p)};
}

/* The same in `width` digits, with zeros before it; what does not fit is cut off in front. */
static inline struct span decimal_padded(
    char text[static DECIMAL_TEXT], uint64_t value, unsigned width)
{
	for (unsigned i = width; i > 0; i--, value /= 10)
		text[i - 1] = (char)('0' + value % 10);
	return (struct span){text, width};
}

#endif
