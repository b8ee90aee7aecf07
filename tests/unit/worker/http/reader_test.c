/*
 * reader: the smuggling table, whole and cut at every byte; limits; responses; what comes after a
 * message.
 */
#include "worker/http/reader.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define H "Host: a:80\r\n"

enum { HEAD_MAX = 1024, HEADERS_MAX = 12 };

static const struct reader_limits limits = {HEAD_MAX, HEADERS_MAX};
static char collected[4096];
static size_t collected_length;

static int collect(struct reader *r, const char *p, size_t n)
{
	(void)r;
	cr_assert_leq(n, sizeof(collected) - collected_length);
	memcpy(collected + collected_length, p, n);
	collected_length += n;
	return 0;
}

/* Read one message given in steps. The bytes it took, or -EPROTO. */
static ssize_t read_message(struct reader *r, struct http_head *head, struct span text, size_t step)
{
	ssize_t used;
	size_t given = 0;

	collected_length = 0;
	do {
		given = text.n - given > step ? given + step : text.n;
		/* An exact copy, so that ASan sees a read past what was given. */
		char *copy = malloc(given);
		memcpy(copy, text.p, given);
		used = reader_head(r, (struct span){copy, given}, head);
		free(copy);
	} while (used == 0 && given < text.n);
	if (used <= 0)
		return used;
	/* Spans of the copy are gone: the head again, from the whole. */
	struct reader again;
	reader_init(&again, r->kind, limits);
	cr_assert_eq(reader_head(&again, text, head), used);
	while (!r->message_done && (size_t)used < text.n) {
		size_t left = text.n - (size_t)used;
		ssize_t n = reader_body(
		    r, (struct span){text.p + used, left < step ? left : step}, collect);
		if (n < 0)
			return n;
		used += n;
	}
	return used;
}

static const struct {
	const char *name;
	struct span text;
	int status;
} requests[] = {
#define ROW(name, text, status) {#name, {text, sizeof(text) - 1}, status},
#include "requests.def"
#undef ROW
};

enum { REQUEST_COUNT = sizeof(requests) / sizeof(requests[0]) };

Test(reader, every_row_of_the_table_has_its_verdict_however_it_is_cut)
{
	static struct http_head head;

	cr_assert_geq(REQUEST_COUNT, 120);
	for (size_t i = 0; i < REQUEST_COUNT; i++) {
		for (size_t step = 1; step <= requests[i].text.n; step++) {
			struct reader r;
			reader_init(&r, READER_REQUEST, limits);
			ssize_t used = read_message(&r, &head, requests[i].text, step);
			if (requests[i].status == 0) {
				cr_expect_eq(used, (ssize_t)requests[i].text.n,
				    "%s in steps of %zu: %s", requests[i].name, step,
				    r.error ? r.error : "incomplete");
				cr_expect(
				    r.message_done, "%s in steps of %zu", requests[i].name, step);
			} else {
				cr_expect_eq(
				    used, -EPROTO, "%s in steps of %zu", requests[i].name, step);
				cr_expect_not_null(r.error);
				if (requests[i].status > 0)
					cr_expect_eq(r.status, (unsigned)requests[i].status,
					    "%s: %u %s", requests[i].name, r.status, r.error);
			}
		}
	}
}

Test(reader, leaves_what_belongs_to_the_next_message)
{
	static const char pipelined[] =
	    "POST /1 HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nab"
	    "POST /2 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\ncd\r\n0\r\n\r\n"
	    "GET /3 HTTP/1.1\r\n" H "\r\n";
	static struct http_head head;
	struct span rest = SPAN(pipelined);
	static const char *const targets[] = {"/1", "/2", "/3"}, *const bodies[] = {"ab", "cd", ""};

	for (int i = 0; i < 3; i++) {
		struct reader r;
		reader_init(&r, READER_REQUEST, limits);
		ssize_t used = read_message(&r, &head, rest, rest.n);
		cr_assert_gt(used, 0);
		cr_assert(span_equal(head.target, span_of(targets[i])));
		cr_assert(
		    span_equal((struct span){collected, collected_length}, span_of(bodies[i])));
		rest = (struct span){rest.p + used, rest.n - (size_t)used};
	}
	cr_assert_eq(rest.n, 0);
}

static int status_of(const char *text)
{
	static struct http_head head;
	struct reader r;

	reader_init(&r, READER_REQUEST, limits);
	ssize_t used = reader_head(&r, span_of(text), &head);
	return used < 0 ? (int)r.status : used > 0 ? 200 : 0;
}

Test(reader, limits_hold_to_the_byte)
{
	char text[HEAD_MAX + 64];
	size_t fixed = strlen("GET / HTTP/1.1\r\n" H "X: \r\n\r\n");

	for (int over = 0; over <= 1; over++) {
		size_t n = HEAD_MAX - fixed + (size_t)over;
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" H "X: %0*d\r\n\r\n", (int)n, 0);
		cr_assert_eq(strlen(text), HEAD_MAX + (size_t)over);
		cr_expect_eq(status_of(text), over ? 431 : 200);
	}
	/* A head that never ends is refused before its end. */
	memset(text, 'a', sizeof(text) - 1);
	memcpy(text, "GET / HTTP/1.1\r\nX: ", 19);
	text[sizeof(text) - 1] = '\0';
	cr_expect_eq(status_of(text), 431);
}

Test(reader, counts_headers)
{
	for (int extra = 0; extra <= 1; extra++) {
		char text[512] = "GET / HTTP/1.1\r\n" H;
		for (int i = 0; i < HEADERS_MAX - 1 + extra; i++)
			strcat(text, "X: y\r\n");
		strcat(text, "\r\n");
		cr_expect_eq(status_of(text), extra ? 431 : 200);
	}
}

Test(reader, a_target_that_is_too_long_is_414)
{
	static struct http_head head;
	char *text = malloc(20000);
	struct reader r;

	memset(text, 'a', 20000);
	memcpy(text, "GET /", 5);
	reader_init(&r, READER_REQUEST, (struct reader_limits){65536, 32});
	cr_assert_eq(reader_head(&r, (struct span){text, 9000}, &head), 0);
	memcpy(text + 9000, " HTTP/1.1\r\n" H "\r\n", 25);
	cr_assert_eq(reader_head(&r, (struct span){text, 9025}, &head), -EPROTO);
	cr_assert_eq(r.status, 414);
	free(text);
}

static const struct {
	const char *name;
	struct span text;
	bool accepted, keep_alive, until_close;
} responses[] = {
#define RESPONSE(name, text, accepted, keep_alive, until_close) \
	{name, {text, sizeof(text) - 1}, accepted, keep_alive, until_close},
    RESPONSE("length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true, true,
	false) RESPONSE("no_reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", true, true,
	false) RESPONSE("chunked",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", true, true,
	false) RESPONSE("no_content", "HTTP/1.1 204 No Content\r\n\r\n", true, true, false)
	RESPONSE("no_content_with_length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
	    true, true, false) RESPONSE("not_modified_chunked",
	    "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", true, true,
	    false) RESPONSE("interim_with_length",
	    "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n", true, true,
	    false) RESPONSE("close_with_tab",
	    "HTTP/1.1 200 OK\r\nConnection: close\t\r\nContent-Length: 2\r\n\r\nab", true, false,
	    false) RESPONSE("two_types",
	    "HTTP/1.1 200 OK\r\nContent-Type: a\r\nContent-Type: b\r\nContent-Length: 0\r\n\r\n",
	    false, false, false) RESPONSE("close",
	    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", true, false,
	    false) RESPONSE("http10", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", true, false,
	    false) RESPONSE("until_close", "HTTP/1.1 200 OK\r\n\r\nab", true, false,
	    true) RESPONSE("both",
	    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	    false, false, false) RESPONSE("two_lengths",
	    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", false, false,
	    false) RESPONSE("gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false,
	    false, false) RESPONSE("folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", false, false,
	    false) RESPONSE("bare_lf", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", false, false,
	    false) RESPONSE("http2", "HTTP/2.0 200 OK\r\n\r\n", false, false, false)
	    RESPONSE("no_status", "HTTP/1.1 OK\r\n\r\n", false, false, false) RESPONSE("two_digits",
		"HTTP/1.1 20 OK\r\n\r\n", false, false,
		false) RESPONSE("four_digits", "HTTP/1.1 2000 OK\r\n\r\n", false, false, false)
		RESPONSE("zero", "HTTP/1.1 099 OK\r\n\r\n", false, false, false) RESPONSE("ssh",
		    "SSH-2.0-OpenSSH_9.2\r\n\r\n", false, false, false) RESPONSE("chunk_extension",
		    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\n\r\n",
		    false, false, false)
#undef RESPONSE
};

Test(reader, responses_are_held_to_the_same)
{
	static struct http_head head;

	for (size_t i = 0; i < sizeof(responses) / sizeof(responses[0]); i++) {
		for (size_t step = 1; step <= responses[i].text.n; step++) {
			struct reader r;
			reader_init(&r, READER_RESPONSE, limits);
			ssize_t used = read_message(&r, &head, responses[i].text, step);
			if (!responses[i].accepted) {
				cr_expect_eq(
				    used, -EPROTO, "%s in steps of %zu", responses[i].name, step);
				continue;
			}
			cr_expect_eq(used, (ssize_t)responses[i].text.n, "%s in steps of %zu",
			    responses[i].name, step);
			cr_expect_eq(
			    head.keep_alive, responses[i].keep_alive, "%s", responses[i].name);
			cr_expect_eq(
			    r.message_done, !responses[i].until_close, "%s", responses[i].name);
			cr_expect_eq(
			    reader_eof(&r), responses[i].until_close, "%s", responses[i].name);
		}
	}
}

Test(reader, a_body_that_is_cut_short_does_not_end)
{
	static struct http_head head;
	struct reader r;

	reader_init(&r, READER_RESPONSE, limits);
	cr_assert_gt(
	    read_message(&r, &head, SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), 100),
	    0);
	cr_assert_not(r.message_done);
	cr_assert_not(reader_eof(&r));
}

Test(reader, tokens_are_found_in_lists)
{
	static const struct {
		const char *value, *token;
		bool found;
	} rows[] = {
	    {"application/json, text/event-stream", "text/event-stream", true},
	    {"application/json,text/event-stream;q=0.5", "text/event-stream", true},
	    {"APPLICATION/JSON; charset=utf-8", "application/json", true},
	    {" , ,a", "a", true},
	    {"application/jsonp", "application/json", false},
	    {"x-application/json", "application/json", false},
	    {"application/json;q=0", "application/json", false},
	    {"application/json; q=0.000", "application/json", false},
	    {"application/json;q=0.001", "application/json", true},
	    {"", "a", false},
	    {"a b", "a", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(header_has_token(span_of(rows[i].value), span_of(rows[i].token)),
		    rows[i].found, "%s", rows[i].value);
}
