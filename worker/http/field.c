/* field: see field.h. A table by length and first letter leads to the one row that may match. */
#include "worker/http/field.h"

#include <stdint.h>

enum { LENGTH_MAX = 20, LETTERS = 32 };

enum times { MANY, ONE };

const struct span http_field_names[HTTP_FIELD_COUNT] = {
#define FIELD(id, letter, name, times) [id] = {name, sizeof(name) - 1},
#include "worker/http/field.def"
#undef FIELD
};

static const uint8_t candidates[LENGTH_MAX + 1][LETTERS] = {
#define FIELD(id, letter, name, times) [sizeof(name) - 1][letter % LETTERS] = id,
#include "worker/http/field.def"
#undef FIELD
};

static const uint32_t singles = 0
#define FIELD(id, letter, name, times) | (uint32_t)(times) << id
#include "worker/http/field.def"
#undef FIELD
    ;

enum http_field http_field_of(struct span name)
{
	if (name.n == 0 || name.n > LENGTH_MAX)
		return HTTP_OTHER;
	enum http_field field = candidates[name.n][(unsigned char)name.p[0] % LETTERS];
	return span_equal_nocase(http_field_names[field], name) ? field : HTTP_OTHER;
}

bool http_field_is_single(enum http_field field)
{
	return singles >> field & 1;
}
