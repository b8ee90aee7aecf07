/* endpoint_fuzz: whatever a server calls its endpoint, what goes into the request line is a path of
 * the same origin: it begins with a slash, not two, and holds nothing that could end the line. */
#include <stdlib.h>
#include <string.h>

#include "worker/bridge/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char target[] = "/a/sse?x=1", authority[] = "up:3001";
	struct config_upstream stream = {.target = target, .authority = authority};
	struct buffer out = {0};

	if (!endpoint_resolve(&stream, (struct span){(const char *)data, size}, &out)) {
		const char *text = buffer_span(&out).p;
		if (text[0] != '/' || strpbrk(text, " \r\n\t\\#"))
			abort();
		if (strlen(text) + 1 != buffer_length(&out))
			abort();
	}
	buffer_release(&out);
	return 0;
}
