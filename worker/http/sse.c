/* sse: see sse.h. Lines end in LF, CR LF or CR, mixed as the sender likes. */
#include "worker/http/sse.h"

#include <errno.h>
#include <string.h>

void sse_feed(struct sse *s, const char *p, size_t n)
{
	/* How it ends is told by the last two bytes, given the one before them. */
	if (n > 3) {
		s->after_cr = p[n - 3] == '\r';
		s->in_line = p[n - 3] != '\n' && p[n - 3] != '\r';
		p += n - 2;
		n = 2;
	}
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

enum { DATA_COPY_MAX = 64 * 1024 };

static int take_data(struct sse_data *d, struct span value, size_t bound)
{
	int error = 0;

	/* The end of a line that was kept: what is long is not copied once more. */
	if (buffer_length(&d->data) == 0 && value.n > DATA_COPY_MAX &&
	    buffer_length(&d->line) > 0) {
		struct buffer empty = d->data;
		d->data = d->line;
		d->line = empty;
		buffer_consume(&d->data, buffer_length(&d->data) - value.n);
	} else {
		error = buffer_append(&d->data, value.p, value.n, bound);
	}
	return error ? error : buffer_append(&d->data, "\n", 1, bound);
}

static void mark_event(struct sse_marks *m, struct span value)
{
	size_t n = value.n < sizeof(m->event) ? value.n : sizeof(m->event) - 1;

	memcpy(m->event, value.p, n);
	m->event[n] = '\0';
}

static void mark_id(struct sse_marks *m, struct span value)
{
	bool good = value.n < sizeof(m->id) && !memchr(value.p, '\0', value.n);

	if (good)
		memcpy(m->id, value.p, value.n);
	m->id[good ? value.n : 0] = '\0';
}

static void mark_retry(struct sse_marks *m, struct span value)
{
	unsigned retry = 0;

	for (size_t i = 0; i < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9' || retry > 100000000)
			return;
		retry = retry * 10 + (unsigned)(value.p[i] - '0');
	}
	m->retry = retry;
}

static const struct {
	struct span name;
	void (*mark)(struct sse_marks *m, struct span value);
} marks[] = {
    {{"event", 5}, mark_event},
    {{"id", 2}, mark_id},
    {{"retry", 5}, mark_retry},
};

static int take_field(struct sse_data *d, struct span line, size_t bound)
{
	const char *colon = memchr(line.p, ':', line.n);
	struct span name = {line.p, colon ? (size_t)(colon - line.p) : line.n};
	struct span value = {line.p + line.n, 0};

	if (colon) {
		value = (struct span){colon + 1, line.n - name.n - 1};
		if (value.n > 0 && value.p[0] == ' ')
			value = (struct span){value.p + 1, value.n - 1};
	}
	if (span_equal(name, SPAN("data")))
		return take_data(d, value, bound);
	for (size_t i = 0; d->marks && i < sizeof(marks) / sizeof(marks[0]); i++) {
		if (span_equal(name, marks[i].name))
			marks[i].mark(d->marks, value);
	}
	return 0;
}

static int end_event(struct sse_data *d, int (*each)(struct sse_data *, struct span))
{
	struct span data = buffer_span(&d->data);
	int status = 0;

	if (data.n > 0) {
		data.n--; /* the LF after the last line is not part of it */
		status = each(d, data);
		buffer_consume(&d->data, buffer_length(&d->data));
	}
	if (d->marks)
		d->marks->event[0] = '\0';
	return status;
}

/* `last` ends a line that may have begun in an earlier piece. */
static int take_line(
    struct sse_data *d, struct span last, size_t bound, int (*each)(struct sse_data *, struct span))
{
	size_t begun = buffer_length(&d->line);
	struct span line = last;

	if (last.n > bound)
		return -EMSGSIZE;
	if (begun > 0) {
		int error = buffer_append(&d->line, last.p, last.n, bound);
		if (error)
			return error;
		line = buffer_span(&d->line);
	}
	int status = line.n == 0 ? end_event(d, each) : take_field(d, line, bound);
	if (begun > 0)
		buffer_consume(&d->line, line.n);
	return status;
}

static const char *find(const char *p, const char *end, char c)
{
	const char *at = memchr(p, c, (size_t)(end - p));

	return at ? at : end;
}

int sse_data_feed(struct sse_data *d, const char *p, size_t n, size_t bound,
    int (*each)(struct sse_data *d, struct span data))
{
	const char *start = p, *end = p + n, *lf = n > 0 ? find(p, end, '\n') : end;

	while (p < end) {
		bool second_half = d->after_cr && *p == '\n';
		d->after_cr = false;
		if (second_half && ++p == end)
			break;
		/* Looked for once: lines may end in CR alone, and no LF may come. */
		if (lf < p)
			lf = find(p, end, '\n');
		const char *stop = find(p, lf, '\r');
		if (stop == end)
			return buffer_append(&d->line, p, (size_t)(end - p), bound);
		d->after_cr = *stop == '\r';
		int status = take_line(d, (struct span){p, (size_t)(stop - p)}, bound, each);
		p = stop + 1;
		if (status) {
			d->taken = (size_t)(p - start);
			return status;
		}
	}
	return 0;
}

void sse_data_release(struct sse_data *d)
{
	buffer_release(&d->line);
	buffer_release(&d->data);
}

void sse_join_lines(char *p, size_t n)
{
	char *at;

	for (at = p; (at = memchr(at, '\n', n - (size_t)(at - p)));)
		*at = ' ';
	for (at = p; (at = memchr(at, '\r', n - (size_t)(at - p)));)
		*at = ' ';
}
