/* sse: see sse.h. Lines end in LF, CR LF or CR, mixed as the sender likes. */
#include "worker/http/sse.h"

void sse_feed(struct sse *s, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool second_half = s->after_cr && p[i] == '\n';
		bool ends_line = p[i] == '\n' || p[i] == '\r';
		s->after_cr = p[i] == '\r';
		if (second_half)
			continue;
		s->in_event = !ends_line || s->in_line;
		s->in_line = !ends_line;
	}
}

bool sse_at_boundary(const struct sse *s)
{
	/* After a lone CR the LF may still come: what is put in between would split the line end.
	 */
	return !s->in_event && !s->after_cr;
}

static int take_line(struct sse_data *d, size_t bound, int (*each)(struct sse_data *, struct span))
{
	struct span line = buffer_span(&d->line);
	int status = 0;

	if (line.n == 0 && buffer_length(&d->data) > 0) {
		struct span data = buffer_span(&d->data);
		data.n--; /* the LF after the last line is not part of it */
		status = each(d, data);
		buffer_consume(&d->data, buffer_length(&d->data));
	} else if (span_equal(line, SPAN("data")) ||
		   (line.n >= 5 && memcmp(line.p, "data:", 5) == 0)) {
		size_t skip = line.n > 5 && line.p[5] == ' ' ? 6 : line.n < 5 ? line.n : 5;
		status = buffer_append(&d->data, line.p + skip, line.n - skip, bound);
		if (!status)
			status = buffer_append(&d->data, "\n", 1, bound);
	}
	buffer_consume(&d->line, line.n);
	return status;
}

int sse_data_feed(struct sse_data *d, const char *p, size_t n, size_t bound,
    int (*each)(struct sse_data *d, struct span data))
{
	size_t start = 0;

	for (size_t i = 0; i < n; i++) {
		bool second_half = d->after_cr && p[i] == '\n';
		d->after_cr = p[i] == '\r';
		if (second_half)
			start = i + 1;
		if (second_half || (p[i] != '\n' && p[i] != '\r'))
			continue;
		int status = buffer_append(&d->line, p + start, i - start, bound);
		if (!status)
			status = take_line(d, bound, each);
		if (status)
			return status;
		start = i + 1;
	}
	return buffer_append(&d->line, p + start, n - start, bound);
}

void sse_data_release(struct sse_data *d)
{
	buffer_release(&d->line);
	buffer_release(&d->data);
}
