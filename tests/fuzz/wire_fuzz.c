/* wire_fuzz: what parses as a session record is written back byte for byte. */
#include <stdlib.h>
#include <string.h>

#include "common/ipc/broker_proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_reader r = {.p = (const char *)data, .length = size};
	struct session_record record;
	char bytes[2048];
	struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};

	if (!session_record_get(&r, &record))
		return 0;
	session_record_put(&w, &record);
	if (w.error || w.length != r.offset || memcmp(bytes, data, w.length) != 0)
		abort();
	return 0;
}
