/* session_id_fuzz: a text that parses is the one text of its id. */
#include <stdlib.h>
#include <string.h>

#include "common/session_id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[SESSION_KEY_SIZE];
	struct span text = {(const char *)data, size};
	struct session_id id;
	char back[SESSION_ID_TEXT + 1];

	if (!session_id_parse(text, key, &id))
		return 0;
	session_id_format(&id, key, back);
	if (!span_equal(text, span_of(back)))
		abort();
	return 0;
}
