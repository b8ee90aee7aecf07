/* wire: see wire.h. Integers are in host order and unaligned: both ends are on one machine. */
#include "common/ipc/wire.h"

#include <string.h>

void wire_put_bytes(struct wire_writer *w, const void *bytes, size_t n)
{
	if (w->error || n > w->capacity - w->length) {
		w->error = true;
		return;
	}
	if (n > 0)
		memcpy(w->p + w->length, bytes, n);
	w->length += n;
}

void wire_put_u8(struct wire_writer *w, uint8_t value)
{
	wire_put_bytes(w, &value, sizeof(value));
}

void wire_put_u16(struct wire_writer *w, uint16_t value)
{
	wire_put_bytes(w, &value, sizeof(value));
}

void wire_put_u32(struct wire_writer *w, uint32_t value)
{
	wire_put_bytes(w, &value, sizeof(value));
}

void wire_put_u64(struct wire_writer *w, uint64_t value)
{
	wire_put_bytes(w, &value, sizeof(value));
}

void wire_put_string(struct wire_writer *w, struct span string)
{
	if (string.n > UINT16_MAX) {
		w->error = true;
		return;
	}
	wire_put_u16(w, (uint16_t)string.n);
	wire_put_bytes(w, string.p, string.n);
}

/* The next `n` bytes, or NULL with the error latched. */
static const char *wire_take(struct wire_reader *r, size_t n)
{
	if (r->error || n > r->length - r->offset) {
		r->error = true;
		return NULL;
	}
	const char *p = r->p + r->offset;
	r->offset += n;
	return p;
}

void wire_get_bytes(struct wire_reader *r, void *bytes, size_t n)
{
	if (n == 0)
		return;
	const char *p = wire_take(r, n);
	if (p)
		memcpy(bytes, p, n);
	else
		memset(bytes, 0, n);
}

uint8_t wire_get_u8(struct wire_reader *r)
{
	uint8_t value;

	wire_get_bytes(r, &value, sizeof(value));
	return value;
}

uint16_t wire_get_u16(struct wire_reader *r)
{
	uint16_t value;

	wire_get_bytes(r, &value, sizeof(value));
	return value;
}

uint32_t wire_get_u32(struct wire_reader *r)
{
	uint32_t value;

	wire_get_bytes(r, &value, sizeof(value));
	return value;
}

uint64_t wire_get_u64(struct wire_reader *r)
{
	uint64_t value;

	wire_get_bytes(r, &value, sizeof(value));
	return value;
}

struct span wire_get_string(struct wire_reader *r)
{
	size_t n = wire_get_u16(r);
	const char *p = n > 0 ? wire_take(r, n) : NULL;

	return p ? (struct span){p, n} : (struct span){"", 0};
}

bool wire_complete(const struct wire_reader *r)
{
	return !r->error && r->offset == r->length;
}
