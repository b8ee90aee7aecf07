/* lines: see lines.h. */
#include "common/lines.h"

static void give_line(struct span line, const struct lines_ops *ops, void *context)
{
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	ops->line(context, line);
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

void lines_feed(struct lines *l, struct span bytes, const struct lines_ops *ops, void *context)
{
	while (bytes.n > 0) {
		const char *end = memchr(bytes.p, '\n', bytes.n);
		size_t n = end ? (size_t)(end - bytes.p) : bytes.n;
		if (!end) {
			keep_part(l, bytes, ops, context);
			return;
		}
		end_line(l, (struct span){bytes.p, n}, ops, context);
		bytes = (struct span){end + 1, bytes.n - n - 1};
	}
}
