/* sse: events and boundaries, however the stream is cut. */
#include "worker/http/sse.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static char seen[512];

static int on_event(struct sse_data *d, struct span data)
{
	size_t n = strlen(seen);

	(void)d;
	cr_assert_lt(n + data.n + 2, sizeof(seen));
	memcpy(seen + n, data.p, data.n);
	strcpy(seen + n + data.n, "|");
	return 0;
}

static char long_seen[200000];

static int on_long_event(struct sse_data *d, struct span data)
{
	(void)d;
	strncat(long_seen, data.p, data.n);
	strcat(long_seen, "|");
	return 0;
}

Test(sse, collects_the_data_of_each_event)
{
	static const struct {
		const char *stream, *events;
		bool boundary;
	} rows[] = {
	    {"data: a\n\n", "a|", true},
	    {"data: a\r\n\r\n", "a|", true},
	    {"data: a\n\ndata: b\n\n", "a|b|", true},
	    {"data:a\ndata: b\ndata:  c\n\n", "a\nb\n c|", true},
	    {"event: message\nid: 1\ndata: {}\n\n", "{}|", true},
	    {": comment\n\ndata: a\n\n", "a|", true},
	    {"id: 1\ndata:\n\n", "|", true},
	    {"id: 1\n\n", "", true},
	    {"data: a\rdata: b\r\r\n", "a\nb|", true},
	    {"data\n\n", "|", true},
	    {"data: a\n", "", false},
	    {"data: a", "", false},
	    {"dat", "", false},
	    {"data: a\n\nd", "a|", false},
	    {"\n\n\n", "", true},
	    {"", "", true},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span s = span_of(rows[i].stream);
		for (size_t step = 1; step <= s.n + 1; step++) {
			struct sse_data d = {0};
			struct sse follow = {0};
			seen[0] = '\0';
			for (size_t at = 0; at < s.n; at += step) {
				size_t n = s.n - at < step ? s.n - at : step;
				sse_feed(&follow, s.p + at, n);
				cr_assert_eq(sse_data_feed(&d, s.p + at, n, 1024, on_event), 0);
			}
			cr_expect_str_eq(seen, rows[i].events, "row %zu in steps of %zu", i, step);
			cr_expect_eq(sse_at_boundary(&follow), rows[i].boundary,
			    "row %zu in steps of %zu", i, step);
			sse_data_release(&d);
		}
	}
}

/* What follows, byte by byte. */
static bool ends_at_boundary(const char *p, size_t n)
{
	bool in_line = false, in_event = false;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n' && i > 0 && p[i - 1] == '\r')
			continue;
		in_event = in_line || (p[i] != '\n' && p[i] != '\r');
		in_line = p[i] != '\n' && p[i] != '\r';
	}
	return !in_event && !(n > 0 && p[n - 1] == '\r');
}

/* All texts of that many of these parts, each cut in two at each place. */
Test(sse, is_the_same_wherever_a_piece_ends)
{
	enum { PARTS = 7, KINDS = 3 };
	static const char *const kinds[KINDS] = {"data:ab", "\r", "\n"};

	for (unsigned text = 0; text < 2187; text++) {
		char stream[64] = "", whole[512];
		for (unsigned i = 0, rest = text; i < PARTS; i++, rest /= KINDS)
			strcat(stream, kinds[rest % KINDS]);
		struct span s = span_of(stream);
		for (size_t cut = 0; cut <= s.n; cut++) {
			struct sse_data d = {0};
			struct sse follow = {0};
			seen[0] = '\0';
			sse_feed(&follow, s.p, cut);
			cr_assert_eq(sse_at_boundary(&follow), ends_at_boundary(s.p, cut));
			sse_feed(&follow, s.p + cut, s.n - cut);
			cr_assert_eq(sse_at_boundary(&follow), ends_at_boundary(s.p, s.n));
			cr_assert_eq(sse_data_feed(&d, s.p, cut, 1024, on_event), 0);
			cr_assert_eq(sse_data_feed(&d, s.p + cut, s.n - cut, 1024, on_event), 0);
			if (cut == 0)
				strcpy(whole, seen);
			cr_assert_str_eq(seen, whole, "text %u cut at %zu", text, cut);
			sse_data_release(&d);
		}
	}
}

static int keep_event(struct sse_data *d, struct span data)
{
	const struct sse_marks *m = d->marks;

	(void)data;
	snprintf(seen, sizeof(seen), "%s %s %u", m->event, m->id, m->retry);
	return 0;
}

Test(sse, keeps_what_events_are_called_and_where_to_go_on)
{
	static const struct {
		const char *stream, *last;
	} rows[] = {
	    {"event: endpoint\ndata: /m\n\n", "endpoint  0"},
	    {"event: a\n\ndata: x\n\n", "  0"},
	    {"id: 7\nretry: 1500\ndata:\n\n", " 7 1500"},
	    {"id: 7\ndata: x\n\ndata: y\n\n", " 7 0"},
	    {"id: 7\ndata: x\n\nid\ndata: y\n\n", "  0"},
	    {"retry: 1x\ndata: y\n\n", "  0"},
	    {"event: 12345678901234567890123456789012345\ndata: y\n\n",
		"1234567890123456789012345678901  0"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sse_marks marks = {0};
		struct sse_data d = {.marks = &marks};
		struct span s = span_of(rows[i].stream);
		seen[0] = '\0';
		cr_assert_eq(sse_data_feed(&d, s.p, s.n, 1024, keep_event), 0);
		cr_expect_str_eq(seen, rows[i].last, "row %zu", i);
		sse_data_release(&d);
	}
}

Test(sse, is_bounded)
{
	struct sse_data d = {0};
	char line[100];
	int status = 0;

	memset(line, 'x', sizeof(line));
	for (int i = 0; i < 100 && !status; i++)
		status = sse_data_feed(&d, line, sizeof(line), 1000, on_event);
	cr_assert_eq(status, -EMSGSIZE);
	sse_data_release(&d);
	d = (struct sse_data){0};
	status = 0;
	for (int i = 0; i < 1000 && !status; i++)
		status = sse_data_feed(&d, "data: x\n", 8, 1000, on_event);
	cr_assert_eq(status, -EMSGSIZE);
	sse_data_release(&d);
}

/* A line that is long is kept as it came, not copied to where the data are. */
Test(sse, keeps_long_lines_as_they_came)
{
	enum { LONG = 100000 };
	static const char *const streams[] = {
	    "data: %s\n\n", "data:%s\n\n", "data: %s\ndata: b\n\n", "data: b\ndata: %s\n\n"};
	static const char *const events[] = {"%s|", "%s|", "%s\nb|", "b\n%s|"};
	static char text[LONG + 1], stream[LONG + 100], expected[LONG + 100];

	memset(text, 'x', LONG);
	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
		size_t n = (size_t)sprintf(stream, streams[i], text);
		sprintf(expected, events[i], text);
		for (size_t step = 1000; step <= n + 1000; step += 33000) {
			struct sse_data d = {0};
			for (int twice = 0; twice < 2; twice++) {
				long_seen[0] = '\0';
				for (size_t at = 0; at < n; at += step)
					cr_assert_eq(sse_data_feed(&d, stream + at,
							 n - at < step ? n - at : step, 2 * LONG,
							 on_long_event),
					    0);
				cr_assert(strcmp(long_seen, expected) == 0, "stream %zu", i);
			}
			sse_data_release(&d);
		}
	}
}
