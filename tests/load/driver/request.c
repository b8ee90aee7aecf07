/* request: see request.h. */
#include "tests/load/driver/request.h"

#include "common/decimal.h"
#include "common/revision.h"

enum { REQUEST_MAX = 4096 };

#define MODERN_META                                                                     \
	"\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"" MCP_STATELESS "\"," \
	"\"io.modelcontextprotocol/clientCapabilities\":{}}"

static struct span if_any(const char *condition, struct span text)
{
	return condition && condition[0] ? text : (struct span){0};
}

static size_t length_of(const struct span *pieces, size_t count)
{
	size_t n = 0;

	while (count > 0)
		n += pieces[--count].n;
	return n;
}

/* Fields that only one era has. */
static int write_fields(struct buffer *out, const struct request *r)
{
	if (r->modern)
		return BUFFER_ADD(out, REQUEST_MAX,
		    SPAN("MCP-Protocol-Version: " MCP_STATELESS "\r\nMcp-Method: "),
		    span_of(r->method), SPAN("\r\n"), if_any(r->name, SPAN("Mcp-Name: ")),
		    span_of(r->name), if_any(r->name, SPAN("\r\n")));
	if (!r->session[0])
		return 0;
	return BUFFER_ADD(out, REQUEST_MAX,
	    SPAN("MCP-Protocol-Version: " REQUEST_LEGACY "\r\nMcp-Session-Id: "),
	    span_of(r->session), SPAN("\r\n"));
}

/* The length of the body, and the body. */
static int write_body(struct buffer *out, const struct request *r)
{
	char text[DECIMAL_TEXT];
	bool has_params = r->params || r->modern;
	const struct span pieces[] = {
	    SPAN("{\"jsonrpc\":\"2.0\","),
	    if_any(r->id, SPAN("\"id\":\"")),
	    span_of(r->id),
	    if_any(r->id, SPAN("\",")),
	    SPAN("\"method\":\""),
	    span_of(r->method),
	    SPAN("\""),
	    has_params ? SPAN(",\"params\":{") : (struct span){0},
	    span_of(r->params),
	    r->params && r->modern ? SPAN(",") : (struct span){0},
	    r->modern ? SPAN(MODERN_META) : (struct span){0},
	    has_params ? SPAN("}") : (struct span){0},
	    SPAN("}"),
	};
	size_t count = sizeof(pieces) / sizeof(pieces[0]);
	int error = BUFFER_ADD(out, REQUEST_MAX, SPAN("Content-Length: "),
	    decimal(text, length_of(pieces, count)), SPAN("\r\n\r\n"));

	return error ? error : buffer_add(out, REQUEST_MAX, pieces, count);
}

int request_write(struct buffer *out, const struct options *o, const struct request *r)
{
	const struct span accept = r->method
				       ? SPAN("\r\nContent-Type: application/json\r\n"
					      "Accept: application/json, text/event-stream\r\n")
				       : SPAN("\r\nAccept: text/event-stream\r\n");

	buffer_consume(out, buffer_length(out));
	int error = BUFFER_ADD(out, REQUEST_MAX, r->method ? SPAN("POST ") : SPAN("GET "),
	    span_of(o->path), SPAN(" HTTP/1.1\r\nHost: "), span_of(o->host), accept,
	    r->close ? SPAN("Connection: close\r\n") : (struct span){0});
	if (!error)
		error = write_fields(out, r);
	if (!error)
		error = r->method
			    ? write_body(out, r)
			    : BUFFER_ADD(out, REQUEST_MAX, if_any(r->seen, SPAN("Last-Event-ID: ")),
				  span_of(r->seen), if_any(r->seen, SPAN("\r\n")), SPAN("\r\n"));
	return error;
}
