/* status: see status.h. */
#include "worker/http/status.h"

#include "common/escape.h"

#include <errno.h>

enum { ERROR_BODY_MAX = 64 * 1024 };

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
    {200, "OK"},
    {202, "Accepted"},
    {204, "No Content"},
    {400, "Bad Request"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

const char *status_reason(unsigned status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].status == status)
			return reasons[i].reason;
	}
	return "Unknown";
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
