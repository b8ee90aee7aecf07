/*
 * reader: see reader.h.
 *
 * Each line of a head is guarded and its field added to the head as soon as it is complete.
 * http-parser then gets the first line, and a chunked body, past the chunk guard. A body of a known
 * length is counted.
 */
#include "worker/http/reader.h"

#include <errno.h>

#include "common/attributes.h"
#include "worker/http/guard.h"

static int on_url(http_parser *parser, const char *p, size_t n);
static int on_body(http_parser *parser, const char *p, size_t n);
static int on_message_complete(http_parser *parser);

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static struct reader *reader_of(http_parser *parser)
{
	return container_of(parser, struct reader, parser);
}

static ssize_t refuse(struct reader *r, unsigned status, const char *reason)
{
	r->status = (uint16_t)status;
	r->error = reason;
	return -EPROTO;
}

void reader_init(struct reader *r, enum reader_kind kind, struct reader_limits limits)
{
	*r = (struct reader){.kind = (uint8_t)kind, .limits = limits};
	http_parser_init(&r->parser, kind == READER_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE);
	/* Heads are bounded by our own limit before the parser, whose bound is global to the
	 * process, sees them. */
	http_parser_set_max_header_size(UINT32_MAX);
}

void head_clear(struct http_head *head)
{
	memset(head, 0, offsetof(struct http_head, headers));
}

struct http_header *head_add(struct http_head *head, struct span name)
{
	struct http_header *h = &head->headers[head->header_count++];

	*h = (struct http_header){.name = name, .field = http_field_of(name)};
	if (head->first[h->field] == 0)
		head->first[h->field] = (uint8_t)head->header_count;
	return h;
}

static int on_url(http_parser *parser, const char *p, size_t n)
{
	reader_of(parser)->head->target = (struct span){p, n};
	return 0;
}

static int on_body(http_parser *parser, const char *p, size_t n)
{
	struct reader *r = reader_of(parser);

	return r->on_body(r, p, n) ? 1 : 0;
}

static int on_message_complete(http_parser *parser)
{
	reader_of(parser)->message_done = true;
	http_parser_pause(parser, 1);
	return 0;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static struct span trimmed(struct span s)
{
	while (s.n > 0 && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* Cut `s` at the first `mark`; the rest after it is left in `s`. */
static struct span cut(struct span *s, char mark)
{
	const char *end = memchr(s->p, mark, s->n);
	struct span first = {s->p, end ? (size_t)(end - s->p) : s->n};
	size_t used = end ? first.n + 1 : first.n;

	*s = (struct span){s->p + used, s->n - used};
	return trimmed(first);
}

/* `;q=0` or `;q=0.000` after a member: the sender does not want it. */
static bool is_refused_quality(struct span parameters)
{
	while (parameters.n > 0) {
		struct span one = cut(&parameters, ';');
		if (one.n < 3 || (one.p[0] | 0x20) != 'q' || one.p[1] != '=' || one.p[2] != '0')
			continue;
		size_t i = 3;
		while (i < one.n && (one.p[i] == '.' || one.p[i] == '0'))
			i++;
		if (i == one.n)
			return true;
	}
	return false;
}

/* What is left of a list's member behind `token`; p is NULL: it begins with something else. */
static struct span after_token(struct span member, struct span token)
{
	struct span rest;

	member = trimmed(member);
	if (member.n < token.n || strncasecmp(member.p, token.p, token.n) != 0)
		return (struct span){0};
	rest = trimmed((struct span){member.p + token.n, member.n - token.n});
	return rest.n == 0 || rest.p[0] == ';' ? rest : (struct span){0};
}

bool header_has_token(struct span value, struct span token)
{
	while (value.n > 0) {
		const char *comma = memchr(value.p, ',', value.n);
		size_t n = comma ? (size_t)(comma - value.p) : value.n;
		struct span rest = after_token((struct span){value.p, n}, token);
		if (rest.p && !is_refused_quality(rest))
			return true;
		n += comma != NULL;
		value = (struct span){value.p + n, value.n - n};
	}
	return false;
}

static bool is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static ssize_t check_framing(struct reader *r, const struct http_head *head)
{
	const struct http_header *coding = head_find(head, HTTP_TRANSFER_ENCODING);
	const struct http_header *length = head_find(head, HTTP_CONTENT_LENGTH);

	if (coding && length)
		return refuse(r, 400, "ambiguous message length");
	if (coding && head->minor == 0)
		return refuse(r, 400, "Transfer-Encoding in HTTP/1.0");
	if (coding && !span_equal_nocase(coding->value, SPAN("chunked")))
		return refuse(r, 501, "the only transfer coding known here is chunked");
	if (!length)
		return 0;
	if (length->value.n == 0 || length->value.n > 18)
		return refuse(r, 400, "malformed Content-Length");
	for (size_t i = 0; i < length->value.n; i++) {
		if (!is_digit((unsigned char)length->value.p[i]))
			return refuse(r, 400, "malformed Content-Length");
	}
	return 0;
}

static bool is_name_byte(unsigned char c)
{
	return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '.' ||
	       c == '_';
}

static bool is_hex_byte(unsigned char c)
{
	return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') || c == ':' || c == '.';
}

static size_t count_while(struct span s, bool (*is_one)(unsigned char))
{
	size_t n = 0;

	while (n < s.n && is_one((unsigned char)s.p[n]))
		n++;
	return n;
}

/* A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port (RFC 9110, 7.2). */
static bool is_host(struct span host)
{
	bool bracket = host.n > 0 && host.p[0] == '[';
	size_t n = count_while((struct span){host.p + bracket, host.n - bracket},
		       bracket ? is_hex_byte : is_name_byte) +
		   bracket;

	if (n == (size_t)bracket || (bracket && (n == host.n || host.p[n++] != ']')))
		return false;
	if (n == host.n)
		return true;
	struct span port = {host.p + n + 1, host.n - n - 1};
	return host.p[n] == ':' && port.n > 0 && port.n <= 5 &&
	       count_while(port, is_digit) == port.n &&
	       (port.n < 5 || memcmp(port.p, "65535", 5) <= 0);
}

/* Exactly one valid Host; absolute-form must agree with it and is reduced to origin-form (RFC
 * 9112, 3.2). */
static ssize_t check_target(struct reader *r, struct http_head *head)
{
	const struct http_header *host = head_find(head, HTTP_HOST);
	struct span target = head->target;

	if (!host)
		return refuse(r, 400, "exactly one Host is required");
	if (!is_host(host->value))
		return refuse(r, 400, "malformed Host");
	if (memchr(target.p, '#', target.n))
		return refuse(r, 400, "a fragment in the request target");
	head->host = host->value;
	if (target.p[0] == '/')
		return 0;
	if (span_equal(target, SPAN("*")))
		return head->method == HTTP_OPTIONS ? 0
						    : refuse(r, 400, "malformed request target");
	static const struct span schemes[] = {{"http://", 7}, {"https://", 8}};
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		struct span scheme = schemes[i];
		if (target.n <= scheme.n ||
		    !span_equal_nocase((struct span){target.p, scheme.n}, scheme))
			continue;
		struct span rest = {target.p + scheme.n, target.n - scheme.n};
		const char *path = memchr(rest.p, '/', rest.n);
		struct span authority = {rest.p, path ? (size_t)(path - rest.p) : rest.n};
		if (!span_equal_nocase(authority, head->host))
			return refuse(r, 400, "the request target and Host differ");
		head->target = path ? (struct span){path, rest.n - authority.n} : SPAN("/");
		return 0;
	}
	return refuse(r, 400, "malformed request target");
}

static ssize_t check_request(struct reader *r, struct http_head *head)
{
	if (head->method == HTTP_CONNECT)
		return refuse(r, 501, "CONNECT is not served");
	return check_target(r, head);
}

/* RFC 9112, 9.3. */
static bool keeps_alive(const struct http_head *head)
{
	bool close = false, keep = head->minor == 1;

	for (unsigned i = head->first[HTTP_CONNECTION]; i > 0 && i <= head->header_count; i++) {
		const struct http_header *h = &head->headers[i - 1];
		if (h->field != HTTP_CONNECTION)
			continue;
		close |= header_has_token(h->value, SPAN("close"));
		keep |= header_has_token(h->value, SPAN("keep-alive"));
	}
	return keep && !close;
}

/* False, with the reason in r->error, when the parser does not take it. */
static bool parser_takes(struct reader *r, struct span text)
{
	size_t used = http_parser_execute(&r->parser, &settings, text.p, text.n);
	enum http_errno error = HTTP_PARSER_ERRNO(&r->parser);

	if ((error == HPE_OK || error == HPE_PAUSED) && used == text.n)
		return true;
	refuse(r, error == HPE_INVALID_METHOD ? 501 : 400,
	    error == HPE_INVALID_METHOD ? "unknown method" : http_errno_description(error));
	return false;
}

/* The first line is known to the parser: the target is a span of it. */
static ssize_t take_first_line(struct reader *r, struct span line, struct http_head *head)
{
	r->head = head;
	bool taken = parser_takes(r, line);
	r->head = NULL;
	if (!taken)
		return -EPROTO;
	head->method = r->parser.method;
	head->status = r->parser.status_code;
	head->minor = r->parser.http_minor;
	return 0;
}

/* These have no body, whatever their fields say (RFC 9112, 6.3). */
static bool is_bodiless(unsigned status)
{
	return (status >= 100 && status < 200) || status == 204 || status == 304;
}

/* How long the message is (RFC 9112, 6.3). */
static ssize_t take_framing(struct reader *r, struct http_head *head)
{
	const struct http_header *length = head_find(head, HTTP_CONTENT_LENGTH);

	for (size_t i = 0; length && i < length->value.n; i++)
		head->content_length =
		    head->content_length * 10 + (uint64_t)(length->value.p[i] - '0');
	if (is_bodiless(head->status)) {
		r->message_done = true;
	} else if (head->chunked) {
		r->chunked = true;
		if (!parser_takes(r, SPAN("Transfer-Encoding: chunked\r\n\r\n")))
			return -EPROTO;
	} else if (r->kind == READER_RESPONSE && !length) {
		r->close_delimited = true;
		head->keep_alive = false;
	} else {
		r->left = head->content_length;
		r->message_done = r->left == 0;
	}
	return 0;
}

/* The lines are well-formed, and their fields are in the head. */
static ssize_t finish_head(struct reader *r, struct span text, struct http_head *head)
{
	const char *first_end = memchr(text.p, '\n', text.n);
	ssize_t status =
	    take_first_line(r, (struct span){text.p, (size_t)(first_end + 1 - text.p)}, head);

	if (status)
		return status;
	head->keep_alive = keeps_alive(head);
	head->chunked = head_find(head, HTTP_TRANSFER_ENCODING) != NULL;
	head->has_length = head_find(head, HTTP_CONTENT_LENGTH) != NULL;
	if (r->repeated)
		return refuse(r, 400, "a header that may be there once is there twice");
	status = check_framing(r, head);
	if (status == 0 && r->kind == READER_REQUEST)
		status = check_request(r, head);
	if (status == 0)
		status = take_framing(r, head);
	r->head_done = status == 0;
	return status;
}

static struct guard_verdict add_field(struct reader *r, struct span line, struct http_head *head)
{
	size_t n;
	struct guard_verdict verdict = guard_field_line(line, &n);

	if (verdict.reason)
		return verdict;
	if (head->header_count >= r->limits.header_count || head->header_count >= HTTP_HEADERS_MAX)
		return (struct guard_verdict){431, "too many headers"};
	struct http_header *h = head_add(head, (struct span){line.p, n});
	h->value = trimmed((struct span){line.p + n + 1, line.n - n - 1});
	r->repeated |=
	    head->first[h->field] != head->header_count && http_field_is_single(h->field);
	return verdict;
}

static struct guard_verdict take_line(
    struct reader *r, struct span line, bool first, struct http_head *head)
{
	if (!first)
		return add_field(r, line, head);
	return r->kind == READER_REQUEST ? guard_request_line(line) : guard_status_line(line);
}

ssize_t reader_head(struct reader *r, struct span bytes, struct http_head *head)
{
	const char *end;
	bool in_pieces = r->scanned > r->start;

	head_clear(head);
	/* A client may end its last message with one CRLF too many (RFC 9112, 2.2). */
	if (r->kind == READER_REQUEST && r->scanned == 0 && bytes.n >= 2 &&
	    memcmp(bytes.p, "\r\n", 2) == 0)
		r->scanned = r->start = 2;
	while ((end = memchr(bytes.p + r->scanned, '\n', bytes.n - r->scanned))) {
		struct span line = {bytes.p + r->scanned, (size_t)(end - bytes.p) - r->scanned};
		bool first = r->scanned == r->start;
		size_t next = (size_t)(end - bytes.p) + 1;
		if (next - r->start > r->limits.head_size)
			break;
		if (line.n == 0 || line.p[line.n - 1] != '\r')
			return refuse(r, 400, "a line that does not end in CRLF");
		line.n--;
		if (line.n == 0 && !first && in_pieces) {
			/* Once more, now that all its lines are here. */
			r->scanned = r->start;
			return reader_head(r, bytes, head);
		}
		if (line.n == 0 && !first) {
			ssize_t status = finish_head(
			    r, (struct span){bytes.p + r->start, next - r->start}, head);
			return status ? status : (ssize_t)next;
		}
		struct guard_verdict verdict = take_line(r, line, first, head);
		if (verdict.reason)
			return refuse(r, verdict.status, verdict.reason);
		r->scanned = (uint32_t)next;
	}
	size_t line = bytes.n - r->scanned;
	if (bytes.n - r->start > r->limits.head_size)
		return r->scanned == r->start && r->kind == READER_REQUEST &&
			       line > GUARD_TARGET_MAX
			   ? refuse(r, 414, "the request target is too long")
			   : refuse(r, 431, "the head is longer than limits.header_size");
	return 0;
}

static ssize_t read_chunks(
    struct reader *r, struct span bytes, int (*each)(struct reader *, const char *, size_t))
{
	const char *reason;
	size_t n = guard_chunks(&r->chunks, bytes, r->limits.head_size, &reason);

	if (reason)
		return refuse(r, 400, reason);
	if (n == 0) /* which would tell the parser that the connection ended */
		return 0;
	r->on_body = each;
	size_t used = http_parser_execute(&r->parser, &settings, bytes.p, n);
	enum http_errno error = HTTP_PARSER_ERRNO(&r->parser);
	if (error == HPE_CB_body)
		return -ECANCELED;
	if (error != HPE_OK && error != HPE_PAUSED)
		return refuse(r, 400, http_errno_description(error));
	return (ssize_t)used;
}

ssize_t reader_body(
    struct reader *r, struct span bytes, int (*each)(struct reader *, const char *, size_t))
{
	size_t n = r->close_delimited || bytes.n < r->left ? bytes.n : (size_t)r->left;

	if (r->chunked)
		return read_chunks(r, bytes, each);
	if (n == 0)
		return 0;
	if (each(r, bytes.p, n))
		return -ECANCELED;
	if (!r->close_delimited) {
		r->left -= n;
		r->message_done = r->left == 0;
	}
	return (ssize_t)n;
}

bool reader_eof(struct reader *r)
{
	r->message_done |= r->close_delimited;
	return r->close_delimited;
}
