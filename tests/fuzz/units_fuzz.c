/* units: what is accepted as a duration or size is finite, not negative, and survives being written
 * and read again. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[256], written[UNITS_TEXT_MAX];
	double seconds;
	size_t bytes, again;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (duration_parse(text, &seconds) == 0 && (!isfinite(seconds) || seconds < 0))
		abort();
	if (size_parse(text, &bytes) == 0) {
		size_format(bytes, written);
		if (size_parse(written, &again) || again != bytes)
			abort();
	}
	return 0;
}
