/* field: see field.h. A table by length and first letter leads to the one row that may match. */
#include "worker/http/field.h"

#include <stdint.h>

enum { LENGTH_MIN = 4, LENGTH_MAX = 20, LETTERS = 32 };

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

/* Where two pieces of four bytes at most differ but for the case of letters. In a token (RFC 9110,
 * 5.6.2) only a capital becomes a letter of `lower` by that bit. */
static uint32_t difference(const char *lower, const char *token)
{
	uint32_t a, b;

	memcpy(&a, lower, sizeof(a));
	memcpy(&b, token, sizeof(b));
	return a ^ (b | 0x20202020);
}

static bool is_name(struct span lower, struct span token)
{
	size_t last = lower.n - LENGTH_MIN;
	uint32_t differs = difference(lower.p + last, token.p + last);

	for (size_t i = 0; i < last; i += LENGTH_MIN)
		differs |= difference(lower.p + i, token.p + i);
	return differs == 0;
}

enum http_field http_field_of(struct span name)
{
	if (name.n < LENGTH_MIN || name.n > LENGTH_MAX)
		return HTTP_OTHER;
	enum http_field field = candidates[name.n][(unsigned char)name.p[0] % LETTERS];
	return field != HTTP_OTHER && is_name(http_field_names[field], name) ? field : HTTP_OTHER;
}

bool http_field_is_single(enum http_field field)
{
	return singles >> field & 1;
}
