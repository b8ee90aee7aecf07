/* http_request: see http_request.h. */
#include "master/demo/http_request.h"

#include <errno.h>
#include <string.h>

#include "master/demo/protocol.h"

static const char *const field_names[HTTP_FIELDS] = {
    [FIELD_ACCEPT] = "accept",
    [FIELD_CONTENT_TYPE] = "content-type",
    [FIELD_EXPECT] = "expect",
    [FIELD_HOST] = "host",
    [FIELD_ORIGIN] = "origin",
    [FIELD_SESSION_ID] = "mcp-session-id",
    [FIELD_VERSION] = "mcp-protocol-version",
};

static struct http_request *request_of(http_parser *parser)
{
	return container_of(parser, struct http_request, parser);
}

/* What a parser callback returns to stop it. */
static int refuse(struct http_request *r, unsigned status)
{
	r->refusal = status;
	return -1;
}

static int on_message_begin(http_parser *parser)
{
	request_of(parser)->started = true;
	return 0;
}

static int on_url(http_parser *parser, const char *at, size_t n)
{
	struct http_request *r = request_of(parser);

	if (n > sizeof(r->url) - r->url_length)
		return refuse(r, HTTP_STATUS_URI_TOO_LONG);
	memcpy(r->url + r->url_length, at, n);
	r->url_length += n;
	return 0;
}

static int on_header_field(http_parser *parser, const char *at, size_t n)
{
	struct http_request *r = request_of(parser);

	if (r->in_value)
		r->name_length = 0;
	r->in_value = false;
	if (r->name_length + n <= HTTP_NAME_MAX)
		memcpy(r->name + r->name_length, at, n);
	r->name_length += n;
	return 0;
}

static int value_append(struct http_request *r, struct span bytes)
{
	struct http_value *value = &r->fields[r->field];

	if (bytes.n > (size_t)(HTTP_VALUE_MAX - value->length))
		return refuse(r, HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE);
	memcpy(value->text + value->length, bytes.p, bytes.n);
	value->length = (unsigned char)(value->length + bytes.n);
	return 0;
}

/* Find the row that the name belongs to. Only Accept is a list, which may come in several lines
 * (RFC 9110, 5.3). */
static int value_begin(struct http_request *r)
{
	struct span name = {r->name, r->name_length};
	int field = 0;

	r->in_value = true;
	while (field < HTTP_FIELDS &&
	       (name.n > HTTP_NAME_MAX || !span_equal_nocase(name, span_of(field_names[field]))))
		field++;
	r->field = (enum http_field)field;
	if (field == HTTP_FIELDS)
		return 0;
	if (!r->fields[field].present) {
		r->fields[field].present = true;
		return 0;
	}
	if (r->field != FIELD_ACCEPT)
		return refuse(r, HTTP_STATUS_BAD_REQUEST);
	return value_append(r, SPAN(","));
}

static int on_header_value(http_parser *parser, const char *at, size_t n)
{
	struct http_request *r = request_of(parser);

	if (!r->in_value && value_begin(r) != 0)
		return -1;
	return r->field == HTTP_FIELDS ? 0 : value_append(r, (struct span){at, n});
}

static int on_headers_complete(http_parser *parser)
{
	struct http_request *r = request_of(parser);

	if (parser->http_major != 1)
		return refuse(r, HTTP_STATUS_HTTP_VERSION_NOT_SUPPORTED);
	/* RFC 9112, 3.2. */
	if (parser->http_minor > 0 && !r->fields[FIELD_HOST].present)
		return refuse(r, HTTP_STATUS_BAD_REQUEST);
	if (!(parser->flags & F_CHUNKED) && (parser->flags & F_CONTENTLENGTH) &&
	    parser->content_length > INCOMING_MAX)
		return refuse(r, HTTP_STATUS_PAYLOAD_TOO_LARGE);
	/* No protocol is offered to upgrade to: what follows is HTTP (RFC 9110, 7.8). */
	parser->upgrade = 0;
	r->head = true;
	return 0;
}

/* Copy a body that was only pointed at. */
static int body_copy(struct http_request *r)
{
	if (buffer_length(&r->copy) > 0 || r->body.n == 0)
		return 0;
	int error = buffer_append(&r->copy, r->body.p, r->body.n, INCOMING_MAX);
	if (!error)
		r->body = buffer_span(&r->copy);
	return error;
}

static int on_body(http_parser *parser, const char *at, size_t n)
{
	struct http_request *r = request_of(parser);

	if (n > INCOMING_MAX - r->body.n)
		return refuse(r, HTTP_STATUS_PAYLOAD_TOO_LARGE);
	if (r->body.n == 0) {
		r->body = (struct span){at, n};
		return 0;
	}
	if (body_copy(r) != 0 || buffer_append(&r->copy, at, n, INCOMING_MAX) != 0)
		return refuse(r, HTTP_STATUS_SERVICE_UNAVAILABLE);
	r->body = buffer_span(&r->copy);
	return 0;
}

static int on_message_complete(http_parser *parser)
{
	struct http_request *r = request_of(parser);

	r->complete = true;
	r->keep_alive = http_should_keep_alive(parser);
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

void http_request_init(struct http_request *r)
{
	memset(r, 0, sizeof(*r));
	http_parser_init(&r->parser, HTTP_REQUEST);
}

void http_request_reset(struct http_request *r)
{
	for (int i = 0; i < HTTP_FIELDS; i++) {
		r->fields[i].present = false;
		r->fields[i].length = 0;
	}
	r->url_length = r->name_length = 0;
	r->in_value = r->started = r->head = r->complete = false;
	r->refusal = 0;
	r->body = (struct span){NULL, 0};
	buffer_release(&r->copy);
}

void http_request_release(struct http_request *r)
{
	buffer_release(&r->copy);
}

unsigned http_request_read(struct http_request *r, struct span bytes, size_t *used)
{
	*used = http_parser_execute(&r->parser, &settings, bytes.p, bytes.n);
	switch (HTTP_PARSER_ERRNO(&r->parser)) {
	case HPE_OK:
		return 0;
	case HPE_PAUSED:
		http_parser_pause(&r->parser, 0);
		return 0;
	case HPE_HEADER_OVERFLOW:
		return HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE;
	default:
		return r->refusal ? r->refusal : HTTP_STATUS_BAD_REQUEST;
	}
}

int http_request_keep(struct http_request *r)
{
	return body_copy(r);
}

struct span http_request_field(const struct http_request *r, enum http_field field)
{
	return (struct span){r->fields[field].text, r->fields[field].length};
}

struct span http_request_path(const struct http_request *r)
{
	struct http_parser_url url;

	http_parser_url_init(&url);
	if (http_parser_parse_url(r->url, r->url_length, 0, &url) != 0 ||
	    !(url.field_set & (1 << UF_PATH)))
		return (struct span){"", 0};
	return (struct span){r->url + url.field_data[UF_PATH].off, url.field_data[UF_PATH].len};
}
