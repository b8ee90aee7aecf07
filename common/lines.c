/* lines: see lines.h. */
#include "common/lines.h"

static struct span without_return(struct span line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

static void give_line(struct span line, const struct lines_ops *ops, void *context)
{
	ops->line(context, without_return(line));
}

static void skip(struct lines *l, struct span beginning, const struct lines_ops *ops, void *context)
{
	ops->too_long(context, beginning);
	buffer_release(&l->part);
}

/* What is known of a line whose end has not come. */
static void keep_part(
    struct lines *l, struct span piece, const struct lines_ops *ops, void *context)
{
	if (l->skipping || piece.n == 0)
		return;
	if (buffer_append(&l->part, piece.p, piece.n, l->max) == 0)
		return;
	l->skipping = true;
	skip(l, buffer_length(&l->part) > 0 ? buffer_span(&l->part) : piece, ops, context);
}

static void end_line(struct lines *l, struct span piece, const struct lines_ops *ops, void *context)
{
	if (l->skipping) {
		l->skipping = false;
	} else if (buffer_length(&l->part) == 0) {
		if (piece.n <= l->max)
			give_line(piece, ops, context);
		else
			ops->too_long(context, piece);
	} else if (buffer_append(&l->part, piece.p, piece.n, l->max) == 0) {
		give_line(buffer_span(&l->part), ops, context);
		buffer_release(&l->part);
	} else {
		skip(l, buffer_span(&l->part), ops, context);
	}
}

/* Keep a long line, whose last `n` bytes begin `bytes`, and what follows it. False when it is
 * short, too long, or memory is. */
static bool hold(struct lines *l, struct span bytes, size_t n)
{
	size_t length = buffer_length(&l->part) + n;

	if (l->skipping || l->at_once == 0 || length <= l->at_once || length > l->max ||
	    buffer_append(&l->part, bytes.p, bytes.n, l->max + bytes.n))
		return false;
	l->held = length + 1;
	return true;
}

void lines_feed(struct lines *l, struct span bytes, const struct lines_ops *ops, void *context)
{
	while (bytes.n > 0) {
		const char *end = memchr(bytes.p, '\n', bytes.n);
		size_t n = end ? (size_t)(end - bytes.p) : bytes.n;
		if (!end) {
			keep_part(l, bytes, ops, context);
			return;
		}
		if (hold(l, bytes, n))
			return;
		end_line(l, (struct span){bytes.p, n}, ops, context);
		bytes = (struct span){end + 1, bytes.n - n - 1};
	}
}

struct span lines_held(const struct lines *l)
{
	struct span part = buffer_span(&l->part);

	return without_return((struct span){part.p, l->held > 0 ? l->held - 1 : 0});
}

void lines_release(struct lines *l, const struct lines_ops *ops, void *context)
{
	struct buffer whole = l->part;
	struct span rest = buffer_span(&whole);

	rest = (struct span){rest.p + l->held, rest.n - l->held};
	l->part = (struct buffer){0};
	l->held = 0;
	lines_feed(l, rest, ops, context);
	buffer_release(&whole);
}

int lines_restore(struct lines *l, struct span part)
{
	int error = buffer_append(&l->part, part.p, part.n, part.n);
	const char *end = error ? NULL : memchr(buffer_span(&l->part).p, '\n', part.n);

	l->held = end ? (size_t)(end - buffer_span(&l->part).p) + 1 : 0;
	return error;
}

void lines_clear(struct lines *l)
{
	buffer_release(&l->part);
	l->held = 0;
	l->skipping = false;
}
