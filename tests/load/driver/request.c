/* request: see request.h. */
#include "tests/load/driver/request.h"

#include <errno.h>
#include <stdio.h>

#include "common/revision.h"

enum { BODY_MAX = 1024, REQUEST_MAX = 4096 };

#define MODERN_META                                                                     \
	"\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"" MCP_STATELESS "\"," \
	"\"io.modelcontextprotocol/clientCapabilities\":{}}"

static int write_body(char *out, const struct request *r)
{
	return snprintf(out, BODY_MAX, "{\"jsonrpc\":\"2.0\",%s%s%s\"method\":\"%s\"%s%s%s%s%s}",
	    r->id ? "\"id\":\"" : "", r->id ? r->id : "", r->id ? "\"," : "", r->method,
	    r->params || r->modern ? ",\"params\":{" : "", r->params ? r->params : "",
	    r->params && r->modern ? "," : "", r->modern ? MODERN_META : "",
	    r->params || r->modern ? "}" : "");
}

/* Fields that only one era has. */
static int write_fields(char *out, size_t size, const struct request *r)
{
	if (r->modern)
		return snprintf(out, size,
		    "MCP-Protocol-Version: " MCP_STATELESS "\r\nMcp-Method: %s\r\n%s%s%s",
		    r->method, r->name ? "Mcp-Name: " : "", r->name ? r->name : "",
		    r->name ? "\r\n" : "");
	if (!r->session[0])
		return snprintf(out, size, "%s", "");
	return snprintf(out, size,
	    "MCP-Protocol-Version: " REQUEST_LEGACY "\r\nMcp-Session-Id: %s\r\n", r->session);
}

int request_write(struct buffer *out, const struct options *o, const struct request *r)
{
	char fields[BODY_MAX], body[BODY_MAX];
	const char *connection = r->close ? "Connection: close\r\n" : "";
	int length = 0;

	buffer_consume(out, buffer_length(out));
	int error = buffer_reserve(out, REQUEST_MAX, REQUEST_MAX);
	int n = write_fields(fields, sizeof(fields), r);
	if (error || n < 0 || (size_t)n >= sizeof(fields))
		return error ? error : -EMSGSIZE;
	if (r->method)
		length = write_body(body, r);
	if (length < 0 || length >= BODY_MAX)
		return -EMSGSIZE;
	n = !r->method
		? snprintf(out->data, REQUEST_MAX,
		      "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n%s%s%s%s%s\r\n",
		      o->path, o->host, connection, fields, r->seen[0] ? "Last-Event-ID: " : "",
		      r->seen, r->seen[0] ? "\r\n" : "")
		: snprintf(out->data, REQUEST_MAX,
		      "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
		      "Accept: application/json, text/event-stream\r\n%s%sContent-Length: "
		      "%d\r\n\r\n%s",
		      o->path, o->host, connection, fields, length, body);
	if (n < 0 || n >= REQUEST_MAX)
		return -EMSGSIZE;
	out->tail = (size_t)n;
	return 0;
}
