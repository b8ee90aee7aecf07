/* message: see message.h. */
#include "tests/load/message.h"

#include <errno.h>

enum { CHUNK_LINE_MAX = 10 }; /* eight digits and CR LF */

static const char token_marks[] = "!#$%&'*+-.^_`|~";

void message_init(struct message *m, enum message_kind kind, const struct message_ops *ops)
{
	*m = (struct message){.kind = kind, .ops = ops};
}

static int refuse(struct message *m, const char *why)
{
	m->error = why;
	return -EPROTO;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_token(struct span s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!letter && !is_digit(c) && !(c && strchr(token_marks, c)))
			return false;
	}
	return s.n > 0;
}

static bool is_text(struct span s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static struct span trimmed(struct span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = (struct span){s.p + 1, s.n - 1};
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static bool begins(struct span s, struct span with)
{
	return s.n >= with.n && strncasecmp(s.p, with.p, with.n) == 0;
}

static int take_status_line(struct message *m, struct span line)
{
	static const struct span version = {"HTTP/1.1 ", 9};

	if (line.n < 13 || memcmp(line.p, version.p, version.n) != 0 || !is_digit(line.p[9]) ||
	    !is_digit(line.p[10]) || !is_digit(line.p[11]) || line.p[12] != ' ')
		return refuse(m, "status line");
	m->status = (unsigned)(line.p[9] - '0') * 100 + (unsigned)(line.p[10] - '0') * 10 +
		    (unsigned)(line.p[11] - '0');
	return m->status < 100 || m->status > 599 ? refuse(m, "status") : 0;
}

static int take_request_line(struct message *m, struct span line)
{
	static const struct span version = {" HTTP/1.1", 9};
	const char *space = memchr(line.p, ' ', line.n);

	if (!space || line.n < version.n ||
	    memcmp(line.p + line.n - version.n, version.p, version.n) != 0)
		return refuse(m, "request line");
	m->verb = (struct span){line.p, (size_t)(space - line.p)};
	const char *end = line.p + line.n - version.n;
	m->target = (struct span){space + 1, space < end ? (size_t)(end - space - 1) : 0};
	if (!is_token(m->verb) || m->target.n == 0 || memchr(m->target.p, ' ', m->target.n))
		return refuse(m, "request line");
	return 0;
}

static int take_length(struct message *m, struct span value)
{
	if (m->has_length || value.n == 0 || value.n > 15)
		return refuse(m, "content length");
	for (size_t i = 0; i < value.n; i++) {
		if (!is_digit(value.p[i]))
			return refuse(m, "content length");
		m->left = m->left * 10 + (uint64_t)(value.p[i] - '0');
	}
	m->has_length = true;
	return 0;
}

static int take_encoding(struct message *m, struct span value)
{
	if (m->chunked || !span_equal_nocase(value, SPAN("chunked")))
		return refuse(m, "transfer encoding");
	m->chunked = true;
	return 0;
}

static int take_connection(struct message *m, struct span value)
{
	if (span_equal_nocase(value, SPAN("close")))
		m->close = true;
	else if (!span_equal_nocase(value, SPAN("keep-alive")))
		return refuse(m, "connection");
	return 0;
}

static int take_type(struct message *m, struct span value)
{
	m->event_stream = begins(value, SPAN("text/event-stream"));
	m->json = begins(value, SPAN("application/json"));
	return 0;
}

static const struct {
	struct span name;
	int (*take)(struct message *m, struct span value);
} fields[] = {
    {{"content-length", 14}, take_length},
    {{"transfer-encoding", 17}, take_encoding},
    {{"connection", 10}, take_connection},
    {{"content-type", 12}, take_type},
};

static int take_field(struct message *m, struct span line)
{
	const char *colon = memchr(line.p, ':', line.n);

	if (!colon)
		return refuse(m, "field");
	struct span name = {line.p, (size_t)(colon - line.p)};
	struct span value = trimmed((struct span){colon + 1, line.n - name.n - 1});
	if (!is_token(name) || !is_text(value))
		return refuse(m, "field");
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (span_equal_nocase(name, fields[i].name))
			return fields[i].take(m, value);
	}
	if (m->ops->field)
		m->ops->field(m, name, value);
	return 0;
}

/* What follows the head. */
static int begin_body(struct message *m)
{
	bool bodiless = m->kind == MESSAGE_RESPONSE && (m->status == 204 || m->status == 304);

	if (m->chunked && m->has_length)
		return refuse(m, "two framings");
	if (bodiless && (m->chunked || m->left > 0))
		return refuse(m, "body where none may be");
	if (m->chunked)
		m->state = MESSAGE_CHUNK_SIZE;
	else if (m->has_length || m->kind == MESSAGE_REQUEST || bodiless)
		m->state = m->left > 0 ? MESSAGE_LENGTH : MESSAGE_DONE;
	else
		m->state = MESSAGE_UNTIL_CLOSE;
	m->close = m->close || m->state == MESSAGE_UNTIL_CLOSE;
	return m->ops->head && m->ops->head(m) ? -ECANCELED : 0;
}

static ssize_t take_head(struct message *m, struct span bytes)
{
	const char *end = memmem(bytes.p, bytes.n, "\r\n\r\n", 4);
	bool first = true;
	int error = 0;

	if (!end && bytes.n <= MESSAGE_HEAD_MAX)
		return 0;
	if (!end || end - bytes.p > MESSAGE_HEAD_MAX)
		return refuse(m, "head too long");
	for (const char *p = bytes.p; p < end && !error; first = false) {
		const char *stop = memchr(p, '\r', (size_t)(end + 1 - p));
		struct span line = {p, (size_t)(stop - p)};
		if (stop[1] != '\n')
			error = refuse(m, "bare CR");
		else if (!first)
			error = take_field(m, line);
		else
			error = m->kind == MESSAGE_REQUEST ? take_request_line(m, line)
							   : take_status_line(m, line);
		p = stop + 2;
	}
	if (!error && first)
		error = refuse(m, "empty line");
	if (!error && m->kind == MESSAGE_RESPONSE && m->status < 200)
		message_init(m, m->kind, m->ops);
	else if (!error)
		error = begin_body(m);
	return error ? error : end + 4 - bytes.p;
}

static ssize_t take_body(struct message *m, struct span bytes)
{
	bool bounded = m->state != MESSAGE_UNTIL_CLOSE;
	size_t n = bounded && bytes.n > m->left ? (size_t)m->left : bytes.n;

	if (bounded)
		m->left -= n;
	if (bounded && m->left == 0)
		m->state = m->chunked ? MESSAGE_CHUNK_END : MESSAGE_DONE;
	if (m->ops->body && m->ops->body(m, (struct span){bytes.p, n}))
		return -ECANCELED;
	return (ssize_t)n;
}

static ssize_t take_chunk_size(struct message *m, struct span bytes)
{
	const char *end = memchr(bytes.p, '\n', bytes.n);
	uint64_t size = 0;

	if (!end)
		return bytes.n < CHUNK_LINE_MAX ? 0 : refuse(m, "chunk size");
	size_t n = (size_t)(end - bytes.p);
	if (n < 2 || n >= CHUNK_LINE_MAX || bytes.p[n - 1] != '\r')
		return refuse(m, "chunk size");
	for (size_t i = 0; i < n - 1; i++) {
		static const char digits[] = "0123456789abcdef";
		char c = bytes.p[i];
		const char *at =
		    c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;
		if (!at)
			return refuse(m, "chunk size");
		size = size * 16 + (uint64_t)(at - digits);
	}
	m->left = size;
	m->state = size > 0 ? MESSAGE_CHUNK : MESSAGE_LAST_CHUNK_END;
	return (ssize_t)n + 1;
}

static ssize_t take_chunk_end(struct message *m, struct span bytes)
{
	if (bytes.p[0] != '\r' || (bytes.n > 1 && bytes.p[1] != '\n'))
		return refuse(m, "end of a chunk");
	if (bytes.n < 2)
		return 0;
	m->state = m->state == MESSAGE_CHUNK_END ? MESSAGE_CHUNK_SIZE : MESSAGE_DONE;
	return 2;
}

static ssize_t (*const steps[])(struct message *, struct span) = {
    [MESSAGE_HEAD] = take_head,
    [MESSAGE_LENGTH] = take_body,
    [MESSAGE_CHUNK_SIZE] = take_chunk_size,
    [MESSAGE_CHUNK] = take_body,
    [MESSAGE_CHUNK_END] = take_chunk_end,
    [MESSAGE_LAST_CHUNK_END] = take_chunk_end,
    [MESSAGE_UNTIL_CLOSE] = take_body,
};

ssize_t message_feed(struct message *m, struct span bytes)
{
	size_t used = 0;

	while (m->state != MESSAGE_DONE && used < bytes.n) {
		ssize_t n = steps[m->state](m, (struct span){bytes.p + used, bytes.n - used});
		if (n < 0)
			return n;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

bool message_eof(const struct message *m)
{
	return m->state == MESSAGE_UNTIL_CLOSE || m->state == MESSAGE_DONE;
}
