/*
 * buffer: a growable queue of bytes with a hard bound.
 *
 * Bytes are appended at the tail and consumed at the head. An empty buffer owns no memory once it
 * was released; a buffer never grows beyond the bound given with each append, so memory stays
 * bounded by whoever reads from the network. Whatever the bound, none holds 4 GiB: all that waits
 * has some, so they are to be small. Not shared between processes.
 */
#ifndef MARGAY_COMMON_BUFFER_H
#define MARGAY_COMMON_BUFFER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/span.h"

struct buffer {
	char *data;
	uint32_t head; /* first unconsumed byte */
	uint32_t tail; /* one past the last byte */
	uint32_t capacity;
};

static inline size_t buffer_length(const struct buffer *b)
{
	return b->tail - b->head;
}

static inline struct span buffer_span(const struct buffer *b)
{
	return (struct span){b->data ? b->data + b->head : "", b->tail - b->head};
}

/* Make room for `n` more bytes at the tail. 0, or -ENOMEM; -EMSGSIZE if the content would exceed
 * `bound`. */
int buffer_reserve(struct buffer *b, size_t n, size_t bound) MUST_CHECK;
/* Append bytes. Errors as buffer_reserve; on error the buffer is unchanged. */
int buffer_append(struct buffer *b, const void *bytes, size_t n, size_t bound) MUST_CHECK;
/* Append a part of what will be `whole` bytes long (0: nobody knows). Once a good deal of it is
 * there, room is made for all: to grow a long buffer is to copy it. Errors as buffer_append. */
int buffer_append_part(
    struct buffer *b, const void *bytes, size_t n, size_t whole, size_t bound) MUST_CHECK;
/* All of `pieces`, or nothing: BUFFER_ADD(b, bound, SPAN("Host: "), host, SPAN("\r\n")). */
int buffer_add(struct buffer *b, size_t bound, const struct span *pieces, size_t count) MUST_CHECK;
#define BUFFER_ADD(b, bound, ...)                                    \
	buffer_add((b), (bound), (const struct span[]){__VA_ARGS__}, \
	    sizeof((const struct span[]){__VA_ARGS__}) / sizeof(struct span))
int buffer_printf(struct buffer *b, size_t bound, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;
/* Drop `n` bytes (at most all) from the head. Keeps the memory. */
void buffer_consume(struct buffer *b, size_t n);
/* Keep only this part of it, in no more memory than that takes. */
void buffer_keep(struct buffer *b, struct span part);
/* Give all memory back; the buffer is empty and usable. */
void buffer_release(struct buffer *b);

#endif
