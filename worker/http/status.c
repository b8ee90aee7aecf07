/* status: see status.h. */
#include "worker/http/status.h"

#include "common/escape.h"

#include <errno.h>

enum { ERROR_BODY_MAX = 64 * 1024 };

#define STATUS(code, reason)                                                           \
	{                                                                              \
		code,                                                                  \
		{                                                                      \
			"HTTP/1.1 " #code " " reason "\r\n", sizeof(#code reason) + 11 \
		}                                                                      \
	}

/* Reason phrases are those of RFC 9110, 15. */
static const struct {
	unsigned status;
	struct span line;
} lines[] = {
    STATUS(200, "OK"),
    STATUS(202, "Accepted"),
    STATUS(204, "No Content"),
    STATUS(400, "Bad Request"),
    STATUS(403, "Forbidden"),
    STATUS(404, "Not Found"),
    STATUS(405, "Method Not Allowed"),
    STATUS(406, "Not Acceptable"),
    STATUS(408, "Request Timeout"),
    STATUS(409, "Conflict"),
    STATUS(413, "Content Too Large"),
    STATUS(414, "URI Too Long"),
    STATUS(415, "Unsupported Media Type"),
    STATUS(422, "Unprocessable Content"),
    STATUS(429, "Too Many Requests"),
    STATUS(431, "Request Header Fields Too Large"),
    STATUS(500, "Internal Server Error"),
    STATUS(501, "Not Implemented"),
    STATUS(502, "Bad Gateway"),
    STATUS(503, "Service Unavailable"),
    STATUS(504, "Gateway Timeout"),
    STATUS(505, "HTTP Version Not Supported"),
};

struct span status_line(unsigned status)
{
	size_t internal_error = 0;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (lines[i].status == status)
			return lines[i].line;
		if (lines[i].status == 500)
			internal_error = i;
	}
	return lines[internal_error].line;
}

int status_error_body(
    struct buffer *out, struct span id, int code, const char *message, struct span data)
{
	int error = buffer_printf(out, ERROR_BODY_MAX, "{\"jsonrpc\":\"2.0\",");

	if (!error && id.n > 0)
		error = buffer_printf(out, ERROR_BODY_MAX, "\"id\":%.*s,", (int)id.n, id.p);
	if (!error)
		error = buffer_printf(
		    out, ERROR_BODY_MAX, "\"error\":{\"code\":%d,\"message\":\"", code);
	if (!error)
		error = escape_append(out, span_of(message), ERROR_BODY_MAX);
	if (!error)
		error = buffer_append(out, "\"", 1, ERROR_BODY_MAX);
	if (!error && data.n > 0)
		error = buffer_printf(out, ERROR_BODY_MAX, ",\"data\":%.*s", (int)data.n, data.p);
	return error ? error : buffer_append(out, "}}", 2, ERROR_BODY_MAX);
}
