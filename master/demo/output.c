/* output: see output.h. Small appends share a segment, so that most answers are one iovec. */
#include "master/demo/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

enum { SEGMENT_MIN = 512, IOVECS_MAX = 16, FILLER_BLOCK = 16384, LINE_MAX_BYTES = 1024 };

struct segment {
	TAILQ_ENTRY(segment) link;
	size_t sent;
	size_t length;
	size_t capacity;
	bool filler;
	char data[];
};

/* What filler looks like; written once, read for ever. */
static const char *filler_block(void)
{
	static char block[FILLER_BLOCK];

	if (!block[0])
		memset(block, 'x', sizeof(block));
	return block;
}

void output_init(struct output *o)
{
	TAILQ_INIT(&o->segments);
	o->owned = o->total = 0;
}

static struct segment *segment_append(struct output *o, size_t capacity)
{
	struct segment *s = malloc(sizeof(*s) + capacity);

	if (!s)
		return NULL;
	s->sent = s->length = 0;
	s->capacity = capacity;
	s->filler = false;
	TAILQ_INSERT_TAIL(&o->segments, s, link);
	return s;
}

int output_bytes(struct output *o, struct span bytes)
{
	struct segment *s = TAILQ_LAST(&o->segments, segment_list);

	if (bytes.n == 0)
		return 0;
	if (!s || s->filler || s->capacity - s->length < bytes.n) {
		s = segment_append(o, bytes.n > SEGMENT_MIN ? bytes.n : SEGMENT_MIN);
		if (!s)
			return -ENOMEM;
	}
	memcpy(s->data + s->length, bytes.p, bytes.n);
	s->length += bytes.n;
	o->owned += bytes.n;
	o->total += bytes.n;
	return 0;
}

int output_fill(struct output *o, size_t n)
{
	if (n == 0)
		return 0;
	struct segment *s = segment_append(o, 0);
	if (!s)
		return -ENOMEM;
	s->filler = true;
	s->length = n;
	o->total += n;
	return 0;
}

int output_printf(struct output *o, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(line))
		return -EMSGSIZE;
	return output_bytes(o, (struct span){line, (size_t)n});
}

void output_move(struct output *o, struct output *from)
{
	TAILQ_CONCAT(&o->segments, &from->segments, link);
	o->owned += from->owned;
	o->total += from->total;
	output_init(from);
}

static void output_consume(struct output *o, size_t n)
{
	while (n > 0) {
		struct segment *s = TAILQ_FIRST(&o->segments);
		size_t left = s->length - s->sent;
		size_t take = n < left ? n : left;

		s->sent += take;
		n -= take;
		o->total -= take;
		if (!s->filler)
			o->owned -= take;
		if (s->sent == s->length) {
			TAILQ_REMOVE(&o->segments, s, link);
			free(s);
		}
	}
}

int output_write(struct output *o, int fd, size_t budget)
{
	struct iovec vector[IOVECS_MAX];
	int count = 0;
	struct segment *s = TAILQ_FIRST(&o->segments);
	size_t sent = s ? s->sent : 0;

	while (s && count < IOVECS_MAX && budget > 0) {
		size_t left = s->length - sent;
		const char *from = s->filler ? filler_block() : s->data + sent;

		if (s->filler && left > FILLER_BLOCK)
			left = FILLER_BLOCK;
		if (left > budget)
			left = budget;
		vector[count++] = (struct iovec){(void *)(uintptr_t)from, left};
		budget -= left;
		sent += left;
		if (sent == s->length) {
			s = TAILQ_NEXT(s, link);
			sent = s ? s->sent : 0;
		}
	}
	if (count == 0)
		return 0;
	ssize_t n = writev(fd, vector, count);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	output_consume(o, (size_t)n);
	return 0;
}

void output_release(struct output *o)
{
	struct segment *s;

	while ((s = TAILQ_FIRST(&o->segments))) {
		TAILQ_REMOVE(&o->segments, s, link);
		free(s);
	}
	output_init(o);
}
