/* annotation_fuzz: whatever a tool annotates, the fields that we write of its arguments are those
 * that we accept; and a sealed state that we did not make never opens. */
#include <stdlib.h>
#include <string.h>

#include "common/raw.h"
#include "worker/mcp/fields.h"
#include "worker/mcp/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input is a request whose params hold a tool and arguments for it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[SESSION_KEY_SIZE] = {7};
	static struct envelope e;
	static struct annotations annotations;
	struct envelope_fault fault;
	struct span text = {(const char *)data, size}, tool;
	struct buffer lines = {0};
	struct ticket ticket;

	if (seal_open(text, key, SPAN("up"), &ticket))
		abort();
	if (envelope_scan(text, 64, &e, &fault) || !e.params.p ||
	    !raw_object(e.params, "tool", &tool) || !annotations_of(tool, &annotations))
		return 0;
	for (unsigned i = 0; i < annotations.count; i++) {
		struct span value = annotation_value(&annotations.rows[i], &e);
		/* What no header can hold has no field; half a surrogate pair is no text. */
		if (value.n > 0 &&
		    (value.p[0] == '{' || value.p[0] == '[' || memchr(value.p, '\\', value.n)))
			return 0;
	}
	if (fields_put(&lines, mcp_method_find(SPAN("tools/call")), &e, &annotations) == 0 &&
	    fields_check(buffer_span(&lines), &annotations, &e))
		abort();
	buffer_release(&lines);
	return 0;
}
