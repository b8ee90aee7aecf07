/* request: any line of the control socket has a command or has none. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "master/supervisor/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char word[REQUEST_WORD_MAX], *copy = malloc(size ? size : 1);

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	if (request_text((struct span){copy, size}, "command", word) &&
	    strnlen(word, sizeof(word)) == sizeof(word))
		abort();
	free(copy);
	return 0;
}
