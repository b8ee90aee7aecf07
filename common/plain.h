/*
 * plain: how far a text goes on without a byte that needs a look.
 *
 * JSON strings, header values and log lines are mostly such bytes; they are passed over sixteen at
 * a time where the processor can (SSE2 is part of x86-64), else one by one.
 */
#ifndef MARGAY_COMMON_PLAIN_H
#define MARGAY_COMMON_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum plain {
	PLAIN_STRING, /* what stands in a JSON string as it is (RFC 8259, 7): ASCII without quote,
			 backslash and controls */
	PLAIN_PRINTABLE, /* from space to tilde */
	PLAIN_NAME,      /* letters, digits and hyphens: what names of header fields are made of */
	PLAIN_INSIDE,    /* what does not end a JSON string that was scanned: all but quote and
			    backslash */
	PLAIN_NESTED,    /* what does not end a JSON container that was scanned, nor begin another
			    or a string: all but quote, brackets and braces */
};

static inline bool plain_is(unsigned char c, enum plain which)
{
	if (which == PLAIN_NAME)
		return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') ||
		       c == '-';
	if (which == PLAIN_INSIDE)
		return c != '"' && c != '\\';
	if (which == PLAIN_NESTED) /* braces are brackets with one bit more */
		return c != '"' && (c | 0x20) != '{' && (c | 0x20) != '}';
	return c >= 0x20 && c < 0x80 && (which == PLAIN_STRING ? c != '"' && c != '\\' : c != 0x7f);
}

#ifdef __SSE2__
enum { PLAIN_BLOCK = 16 };

/* Each byte of a block that is not in a range of bytes, ends included. */
static inline __m128i plain_outside(__m128i v, unsigned char first, unsigned char last)
{
	/* The range begins at the least of signed bytes, so that one comparison will do. */
	__m128i moved = _mm_add_epi8(v, _mm_set1_epi8((char)(0x80 - first)));

	return _mm_cmpgt_epi8(moved, _mm_set1_epi8((char)(0x80 + last - first)));
}

/* One bit for each byte of a block that is not plain. */
static inline unsigned plain_marks(const char *p, enum plain which)
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);

	if (which == PLAIN_NAME) {
		__m128i lower = _mm_or_si128(v, _mm_set1_epi8(0x20));
		__m128i other =
		    _mm_and_si128(plain_outside(lower, 'a', 'z'), plain_outside(v, '0', '9'));
		return (unsigned)_mm_movemask_epi8(
		    _mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('-')), other));
	}
	__m128i marks = _mm_setzero_si128();
	if (which == PLAIN_STRING ||
	    which == PLAIN_PRINTABLE) /* from 0x80 on they are below zero */
		marks = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20));
	if (which == PLAIN_PRINTABLE)
		marks = _mm_or_si128(marks, _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)));
	else
		marks = _mm_or_si128(marks, _mm_cmpeq_epi8(v, _mm_set1_epi8('"')));
	if (which == PLAIN_STRING || which == PLAIN_INSIDE)
		marks = _mm_or_si128(marks, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
	if (which == PLAIN_NESTED) {
		__m128i brace = _mm_or_si128(v, _mm_set1_epi8(0x20));
		marks = _mm_or_si128(marks, _mm_cmpeq_epi8(brace, _mm_set1_epi8('{')));
		marks = _mm_or_si128(marks, _mm_cmpeq_epi8(brace, _mm_set1_epi8('}')));
	}
	return (unsigned)_mm_movemask_epi8(marks);
}
#endif

/* How many of the `n` bytes at `p` come before the first that is not plain. */
static inline size_t plain_length(const char *p, size_t n, enum plain which)
{
	size_t i = 0;

#ifdef __SSE2__
	for (; n - i >= PLAIN_BLOCK; i += PLAIN_BLOCK) {
		unsigned marks = plain_marks(p + i, which);
		if (marks)
			return i + (size_t)__builtin_ctz(marks);
	}
	/* The last block again, as far as it was not looked at. */
	if (i > 0 && i < n) {
		unsigned marks = plain_marks(p + n - PLAIN_BLOCK, which);
		return marks ? n - PLAIN_BLOCK + (size_t)__builtin_ctz(marks) : n;
	}
#endif
	while (i < n && plain_is((unsigned char)p[i], which))
		i++;
	return i;
}

#endif
