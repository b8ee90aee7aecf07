/* numbers: see numbers.h. */
#include "tests/load/numbers.h"

#include <errno.h>
#include <stdlib.h>

int number_parse(const char *text, unsigned min, unsigned max, unsigned *out)
{
	char *end;

	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < min || n > max)
		return -EINVAL;
	*out = (unsigned)n;
	return 0;
}
