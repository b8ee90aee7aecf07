/* envelope: what is accepted is JSON to another parser too, with the same method; nothing reads
 * past the end. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_message(void *context, const struct envelope *message)
{
	(void)context;
	(void)message;
	return 0;
}

static void compare(const char *text, size_t size, const struct envelope *e)
{
	cJSON *json = cJSON_ParseWithLength(text, size);
	const char *method;

	if (!json) {
		/* cJSON refuses half a surrogate pair, which is grammatical JSON, and control
		 * character escapes of NUL. */
		if (!memchr(text, '\\', size))
			abort();
		return;
	}
	method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "method"));
	if ((method != NULL) != (e->method.p != NULL))
		abort();
	if (method && !memchr(e->method.p ? e->method.p : "", '\0', e->method.n) &&
	    (strlen(method) != e->method.n || memcmp(method, e->method.p, e->method.n) != 0))
		abort();
	cJSON_Delete(json);
}

/* A few bytes at a time, it is what it is in one go. */
static void compare_steps(
    struct span text, int status, const struct envelope *e, const struct envelope_fault *fault)
{
	struct envelope_steps *steps = envelope_steps_begin(text, 64);
	struct envelope again;
	struct envelope_fault other = {0};
	int error = -EAGAIN;

	if (!steps)
		return;
	while (error == -EAGAIN)
		error = envelope_step(steps, 1 + text.n % 7, &again, &other);
	if (error != status || (error == -EINVAL && other.code != fault->code) ||
	    (error == 0 && (again.kind != e->kind || again.id.p != e->id.p ||
			       again.method.n != e->method.n || again.text.n != e->text.n)))
		abort();
	envelope_steps_free(steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct envelope e;
	struct envelope_fault fault;
	char *copy = malloc(size ? size : 1);

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	struct span text = {copy, size};
	int status = envelope_scan(text, 64, &e, &fault);
	if (status == 0)
		compare(copy, size, &e);
	else if (fault.offset > size)
		abort();
	compare_steps(text, status, &e, &fault);
	if (status == -E2BIG)
		(void)!envelope_batch(text, 64, on_message, NULL, &fault);
	free(copy);
	return 0;
}
