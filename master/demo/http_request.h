/*
 * http_request: one HTTP/1.1 request as it comes in.
 *
 * Wraps http_parser and keeps the few fields that the endpoint looks at, each bounded. A body that
 * came in one piece is only pointed at, in the bytes that were read; a body in pieces is copied.
 */
#ifndef MARGAY_MASTER_DEMO_HTTP_REQUEST_H
#define MARGAY_MASTER_DEMO_HTTP_REQUEST_H

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "common/span.h"

enum http_field {
	FIELD_ACCEPT,
	FIELD_CONTENT_TYPE,
	FIELD_EXPECT,
	FIELD_HOST,
	FIELD_ORIGIN,
	FIELD_SESSION_ID,
	FIELD_VERSION,
	HTTP_FIELDS
};

enum { HTTP_NAME_MAX = 31, HTTP_VALUE_MAX = 255, HTTP_URL_MAX = 255 };

struct http_value {
	bool present;
	unsigned char length;
	char text[HTTP_VALUE_MAX];
};

struct http_request {
	http_parser parser;
	struct http_value fields[HTTP_FIELDS];
	char url[HTTP_URL_MAX];
	size_t url_length;
	char name[HTTP_NAME_MAX + 1]; /* of the header being read */
	size_t name_length;           /* above HTTP_NAME_MAX: too long to be one of ours */
	enum http_field field;        /* the one whose value is being read; HTTP_FIELDS for none */
	bool in_value;
	bool started;  /* its first byte was read */
	bool head;     /* its header is complete */
	bool complete; /* all of it was read */
	bool keep_alive;
	unsigned refusal; /* status, set by a parser callback */
	struct span body; /* valid while the bytes that were read last are */
	struct buffer copy;
};

/* A connection's first request, and each next one. */
void http_request_init(struct http_request *r);
void http_request_reset(struct http_request *r);
void http_request_release(struct http_request *r);
/* Read from `bytes` until they end or the request is complete; the bytes after `used` belong to the
 * next one. 0, or the HTTP status to refuse it with. Whoever reuses the bytes before the request is
 * complete calls http_request_keep first: 0 or -ENOMEM. */
unsigned http_request_read(struct http_request *r, struct span bytes, size_t *used) MUST_CHECK;
int http_request_keep(struct http_request *r) MUST_CHECK;
/* Empty when the field was not sent. */
struct span http_request_field(const struct http_request *r, enum http_field field);
/* The path of the target, without a query; empty when there is none. */
struct span http_request_path(const struct http_request *r);

#endif
