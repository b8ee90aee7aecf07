/*
 * outside: what a configuration names but does not hold, files and variables, as it was when the
 * file was read.
 *
 * Processes started later from the same configuration, by this master or by its successor, get the
 * same texts: they travel behind the bytes of the file as records `key NUL text NUL`, after one NUL
 * more, which no YAML may hold.
 */
#include <errno.h>
#include <string.h>

#include "common/config/parser.h"

enum { OUTSIDE_MAX = 8 * 1024 * 1024 };

void parse_outside_keep(struct parse *p, const char *key, struct span text)
{
	struct buffer *to = &p->config->outside;

	if (buffer_append(to, key, strlen(key) + 1, OUTSIDE_MAX) ||
	    buffer_append(to, text.p, text.n, OUTSIDE_MAX) || buffer_append(to, "", 1, OUTSIDE_MAX))
		p->no_memory = true;
}

const char *parse_outside(const struct parse *p, const char *key)
{
	struct span rest = buffer_span(&p->config->outside);

	while (rest.n > 0) {
		const char *name = rest.p;
		size_t n = strnlen(name, rest.n) + 1;
		size_t length = n < rest.n ? strnlen(name + n, rest.n - n) + 1 : 0;
		if (length == 0 || n + length > rest.n)
			return NULL;
		if (strcmp(name, key) == 0)
			return name + n;
		rest = (struct span){rest.p + n + length, rest.n - n - length};
	}
	return NULL;
}

struct span parse_outside_split(struct parse *p, struct span bytes)
{
	const char *end = memchr(bytes.p, '\0', bytes.n);
	size_t n = end ? (size_t)(end - bytes.p) : bytes.n;

	if (end && buffer_append(&p->config->outside, end + 1, bytes.n - n - 1, OUTSIDE_MAX))
		p->no_memory = true;
	return (struct span){bytes.p, n};
}

int config_seal(const struct config *config, struct span bytes, struct buffer *out)
{
	struct span outside = buffer_span(&config->outside);
	size_t n = strnlen(bytes.p, bytes.n);
	int error = buffer_append(out, bytes.p, n, CONFIG_SEALED_MAX);

	if (outside.n == 0 || error)
		return error;
	error = buffer_append(out, "", 1, CONFIG_SEALED_MAX);
	return error ? error : buffer_append(out, outside.p, outside.n, CONFIG_SEALED_MAX);
}
