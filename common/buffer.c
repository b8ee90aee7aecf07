/* buffer: see buffer.h. Growth doubles; consumed space is reclaimed before the allocator is asked.
 */
#include "common/buffer.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	BUFFER_FIRST_CAPACITY = 512,
	BUFFER_PART_SURE =
	    32 * 1024, /* bytes that must be there before room is made for the rest */
};

int buffer_reserve(struct buffer *b, size_t n, size_t bound)
{
	size_t length = buffer_length(b);

	if (n > bound || length > bound - n)
		return -EMSGSIZE;
	if (b->capacity - b->tail >= n && b->data)
		return 0;
	if (b->head > 0 && b->data) {
		memmove(b->data, b->data + b->head, length);
		b->head = 0;
		b->tail = (uint32_t)length;
		if (b->capacity - b->tail >= n)
			return 0;
	}
	if (length + n > UINT32_MAX)
		return -EMSGSIZE;
	size_t capacity = b->capacity ? b->capacity : BUFFER_FIRST_CAPACITY;
	while (capacity < length + n)
		capacity *= 2;
	if (capacity > UINT32_MAX)
		capacity = UINT32_MAX;
	char *data = realloc(b->data, capacity);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->capacity = (uint32_t)capacity;
	return 0;
}

int buffer_append(struct buffer *b, const void *bytes, size_t n, size_t bound)
{
	int error = n > 0 ? buffer_reserve(b, n, bound) : 0;

	if (error || n == 0)
		return error;
	memcpy(b->data + b->tail, bytes, n);
	b->tail += (uint32_t)n;
	return 0;
}

int buffer_append_part(struct buffer *b, const void *bytes, size_t n, size_t whole, size_t bound)
{
	size_t length = buffer_length(b);
	int error = 0;

	if (length >= BUFFER_PART_SURE && whole > length && whole <= bound)
		error = buffer_reserve(b, whole - length, bound);
	return error ? error : buffer_append(b, bytes, n, bound);
}

int buffer_add(struct buffer *b, size_t bound, const struct span *pieces, size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += pieces[i].n;
	int error = buffer_reserve(b, n, bound);
	for (size_t i = 0; !error && i < count; i++) {
		if (pieces[i].n > 0)
			memcpy(b->data + b->tail, pieces[i].p, pieces[i].n);
		b->tail += (uint32_t)pieces[i].n;
	}
	return error;
}

int buffer_printf(struct buffer *b, size_t bound, const char *format, ...)
{
	size_t room = b->data ? b->capacity - b->tail : 0;
	va_list args;

	/* What is there is enough most of the time. */
	va_start(args, format);
	int length = vsnprintf(room > 0 ? b->data + b->tail : NULL, room, format, args);
	va_end(args);
	if (length < 0)
		return -EINVAL;
	/* vsnprintf writes a NUL that is not part of the content: reserve it past the bound. */
	size_t n = (size_t)length;
	if (n > bound || buffer_length(b) > bound - n)
		return -EMSGSIZE;
	if (n >= room) {
		int error = buffer_reserve(b, n + 1, bound + 1);
		if (error)
			return error;
		va_start(args, format);
		vsnprintf(b->data + b->tail, n + 1, format, args);
		va_end(args);
	}
	b->tail += (uint32_t)n;
	return 0;
}

void buffer_consume(struct buffer *b, size_t n)
{
	size_t length = buffer_length(b);

	b->head += (uint32_t)(n < length ? n : length);
	if (b->head == b->tail)
		b->head = b->tail = 0;
}

void buffer_keep(struct buffer *b, struct span part)
{
	/* Not by realloc: what that cuts off serves no other buffer. */
	char *data = part.n > 0 ? malloc(part.n) : NULL;

	if (data) {
		memcpy(data, part.p, part.n);
		free(b->data);
		*b = (struct buffer){
		    .data = data, .tail = (uint32_t)part.n, .capacity = (uint32_t)part.n};
	} else if (part.n > 0) {
		memmove(b->data, part.p, part.n);
		b->head = 0;
		b->tail = (uint32_t)part.n;
	} else {
		buffer_release(b);
	}
}

void buffer_release(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){0};
}
