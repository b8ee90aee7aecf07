/*
 * span: a view of bytes that somebody else owns.
 *
 * A span never owns, never ends in NUL, and is only as long-lived as the buffer it points into.
 */
#ifndef MARGAY_COMMON_SPAN_H
#define MARGAY_COMMON_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

struct span {
	const char *p;
	size_t n;
};

/* A string literal or array as a span, without its NUL. */
#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})

static inline struct span span_of(const char *string)
{
	return (struct span){string, string ? strlen(string) : 0};
}

static inline bool span_equal(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* ASCII case-insensitive, as HTTP field names are (RFC 9110, 5.1). */
static inline bool span_equal_nocase(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}

#endif
