/* message: what is read and what is refused, however the bytes are cut. */
#include "tests/load/message.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

static char body[256];

static int on_body(struct message *m, struct span piece)
{
	size_t n = strlen(body);

	(void)m;
	cr_assert_lt(n + piece.n, sizeof(body));
	memcpy(body + n, piece.p, piece.n);
	body[n + piece.n] = '\0';
	return 0;
}

static const struct message_ops ops = {.body = on_body};

/* Feed `text` in pieces of `step` bytes, as a connection would. The bytes taken, or the refusal. */
static ssize_t feed(struct message *m, enum message_kind kind, struct span text, size_t step)
{
	size_t taken = 0;

	body[0] = '\0';
	message_init(m, kind, &ops);
	for (size_t end = step; taken < text.n && m->state != MESSAGE_DONE; end += step) {
		size_t known = end < text.n ? end : text.n;
		ssize_t n = message_feed(m, (struct span){text.p + taken, known - taken});
		if (n < 0)
			return n;
		taken += (size_t)n;
		if (known == text.n && n == 0)
			break;
	}
	return (ssize_t)taken;
}

#define OK "HTTP/1.1 200 OK\r\n"

Test(load_message, reads_answers)
{
	static const struct {
		const char *text, *body;
		enum message_state state;
		bool close, eof;
	} rows[] = {
	    {OK "Content-Length: 3\r\n\r\nabc", "abc", MESSAGE_DONE, false, true},
	    {OK "content-length:3\r\n\r\nab", "ab", MESSAGE_LENGTH, false, false},
	    {OK "Content-Length: 0\r\nConnection: close\r\n\r\n", "", MESSAGE_DONE, true, true},
	    {OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
		"abc0123456789", MESSAGE_DONE, false, true},
	    {OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc", MESSAGE_CHUNK_SIZE, false,
		false},
	    {OK "Transfer-Encoding: chunked\r\n\r\n0\r\n", "", MESSAGE_LAST_CHUNK_END, false,
		false},
	    {OK "\r\nabc", "abc", MESSAGE_UNTIL_CLOSE, true, true},
	    {"HTTP/1.1 204 No Content\r\n\r\n", "", MESSAGE_DONE, false, true},
	    {"HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 1\r\n\r\na", "a", MESSAGE_DONE,
		false, true},
	    {"HTTP/1.1 200 OK\r\nContent-", "", MESSAGE_HEAD, false, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span text = span_of(rows[i].text);
		for (size_t step = 1; step <= text.n; step++) {
			struct message m;
			cr_assert_geq(feed(&m, MESSAGE_RESPONSE, text, step), 0, "row %zu", i);
			cr_expect_eq(m.state, rows[i].state, "row %zu in steps of %zu", i, step);
			cr_expect_eq(m.close, rows[i].close, "row %zu in steps of %zu", i, step);
			cr_expect_eq(message_eof(&m), rows[i].eof, "row %zu", i);
			cr_expect_str_eq(body, rows[i].body, "row %zu in steps of %zu", i, step);
		}
	}
}

Test(load_message, leaves_what_follows)
{
	struct span text = SPAN(OK "Content-Length: 1\r\n\r\naHTTP/1.1");
	struct message m;

	cr_expect_eq(feed(&m, MESSAGE_RESPONSE, text, text.n), (ssize_t)text.n - 8);
	cr_expect_eq(m.state, MESSAGE_DONE);
}

Test(load_message, refuses_what_is_unusual)
{
	static const char *const rows[] = {
	    "\r\nHTTP/1.1 200 OK\r\n\r\n",
	    "HTTP/1.0 200 OK\r\n\r\n",
	    "HTTP/1.1 2000 OK\r\n\r\n",
	    "HTTP/1.1 200\r\n\r\n",
	    "HTTP/1.1 099 x\r\n\r\n",
	    OK "Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
	    OK "Content-Length: +1\r\n\r\na",
	    OK "Content-Length: \r\n\r\na",
	    OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	    OK "Transfer-Encoding: gzip\r\n\r\n",
	    OK "Connection: upgrade\r\n\r\n",
	    OK "Name : x\r\n\r\n",
	    OK " folded: x\r\n\r\n",
	    OK "no colon\r\n\r\n",
	    OK "x: a\nb: c\r\n\r\n",
	    OK "x: a\rb: c\r\n\r\n",
	    OK "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
	    OK "Transfer-Encoding: chunked\r\n\r\n\r\n",
	    OK "Transfer-Encoding: chunked\r\n\r\n1\na\r\n",
	    OK "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
	    OK "Transfer-Encoding: chunked\r\n\r\n123456789\r\n",
	    OK "Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
	    "HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\na",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span text = span_of(rows[i]);
		for (size_t step = 1; step <= text.n; step++) {
			struct message m;
			cr_expect_eq(feed(&m, MESSAGE_RESPONSE, text, step), -EPROTO,
			    "row %zu in steps of %zu", i, step);
			cr_expect(m.error);
		}
	}
}

Test(load_message, bounds_heads)
{
	static char text[2 * MESSAGE_HEAD_MAX];
	struct message m;

	memset(text, 'x', sizeof(text));
	memcpy(text, OK, sizeof(OK) - 1);
	cr_expect_eq(feed(&m, MESSAGE_RESPONSE, (struct span){text, sizeof(text)}, 1000), -EPROTO);
}

static struct span verb, target;

static int on_head(struct message *m)
{
	verb = m->verb;
	target = m->target;
	return 0;
}

static const struct message_ops request_ops = {.head = on_head, .body = on_body};

Test(load_message, reads_requests)
{
	struct span text = SPAN("POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
	struct message m;

	body[0] = '\0';
	message_init(&m, MESSAGE_REQUEST, &request_ops);
	cr_assert_eq(message_feed(&m, text), (ssize_t)text.n);
	cr_expect_eq(m.state, MESSAGE_DONE);
	cr_expect(span_equal(verb, SPAN("POST")));
	cr_expect(span_equal(target, SPAN("/mcp")));
	cr_expect_str_eq(body, "hi");
	message_init(&m, MESSAGE_REQUEST, &request_ops);
	cr_assert_eq(message_feed(&m, SPAN("GET / HTTP/1.1\r\n\r\n")), 18);
	cr_expect_eq(m.state, MESSAGE_DONE);
	message_init(&m, MESSAGE_REQUEST, &request_ops);
	cr_assert_eq(message_feed(&m, SPAN("GET HTTP/1.1\r\n\r\n")), -EPROTO);
}
