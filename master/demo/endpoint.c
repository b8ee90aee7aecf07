/* endpoint: see endpoint.h. Each check either refuses, which completes the answer, or is passed. */
#include "master/demo/endpoint.h"

#include <errno.h>

static struct span span_trim(struct span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* The part before the first `separator`; `rest` is what follows it. */
static struct span span_cut(struct span s, char separator, struct span *rest)
{
	const char *at = s.n > 0 ? memchr(s.p, separator, s.n) : NULL;
	size_t n = at ? (size_t)(at - s.p) : s.n;

	*rest = at ? (struct span){at + 1, s.n - n - 1} : (struct span){s.p + s.n, 0};
	return (struct span){s.p, n};
}

/* Does the list name this media type, or a range that holds it? Weights are not looked at. */
static bool accepts(struct span list, const char *type, const char *range)
{
	while (list.n > 0) {
		struct span parameters;
		struct span item = span_cut(list, ',', &list);

		item = span_trim(span_cut(item, ';', &parameters));
		if (span_equal_nocase(item, span_of(type)) ||
		    span_equal_nocase(item, span_of(range)) || span_equal(item, SPAN("*/*")))
			return true;
	}
	return false;
}

static const char *const local_names[] = {"localhost", "127.0.0.1", "[::1]"};

/* A page of another site must not reach this server through the user's browser (2025-11-25,
 * transports, security warning). Programs that are no browsers send no Origin. */
static bool origin_is_local(struct span origin)
{
	struct span rest;
	struct span scheme = span_cut(origin, ':', &rest);

	if ((!span_equal_nocase(scheme, SPAN("http")) &&
		!span_equal_nocase(scheme, SPAN("https"))) ||
	    rest.n < 2 || memcmp(rest.p, "//", 2) != 0)
		return false;
	rest = (struct span){rest.p + 2, rest.n - 2};
	for (size_t i = 0; i < sizeof(local_names) / sizeof(local_names[0]); i++) {
		struct span name = span_of(local_names[i]);

		if (rest.n >= name.n && span_equal_nocase((struct span){rest.p, name.n}, name) &&
		    (rest.n == name.n || rest.p[name.n] == ':'))
			return true;
	}
	return false;
}

static void refuse(struct http_answer *a, unsigned status, const char *text)
{
	http_answer_refuse(a, status, "", RPC_SERVER_ERROR, text);
}

/* The session that the request names, or NULL after having refused. */
static struct session *find_session(
    struct server *server, const struct http_request *request, struct http_answer *a)
{
	struct span id = http_request_field(request, FIELD_SESSION_ID);
	struct session *s = session_find(&server->sessions, id);

	if (id.n == 0)
		refuse(a, HTTP_STATUS_BAD_REQUEST, "Mcp-Session-Id is required");
	else if (!s)
		refuse(a, HTTP_STATUS_NOT_FOUND, "Session not found");
	return s;
}

static bool post_is_acceptable(const struct http_request *request, struct http_answer *a)
{
	struct span parameters;
	struct span type =
	    span_cut(http_request_field(request, FIELD_CONTENT_TYPE), ';', &parameters);
	struct span accept = http_request_field(request, FIELD_ACCEPT);

	if (!span_equal_nocase(span_trim(type), SPAN("application/json"))) {
		refuse(
		    a, HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json");
		return false;
	}
	if (!accepts(accept, "application/json", "application/*") ||
	    !accepts(accept, "text/event-stream", "text/*")) {
		refuse(a, HTTP_STATUS_NOT_ACCEPTABLE,
		    "Accept must name application/json and text/event-stream");
		return false;
	}
	return true;
}

static void post_dispatch(struct server *server, struct http_answer *a, const struct incoming *in)
{
	const char *refusal = in->batch ? batch_refusal(&a->exchange, in) : NULL;

	if (refusal) {
		http_answer_refuse(a, HTTP_STATUS_BAD_REQUEST, "", RPC_INVALID_REQUEST, refusal);
		return;
	}
	a->options.batch = in->batch;
	a->options.sse = server->sse;
	a->options.announce = in->initialize;
	a->options.status =
	    !in->batch && in->first == INCOMING_INVALID ? HTTP_STATUS_BAD_REQUEST : HTTP_STATUS_OK;
	protocol_dispatch(server, &a->exchange, in);
	if (in->requests == 0)
		http_answer_empty(a, HTTP_STATUS_ACCEPTED, "");
	else if (server->sse)
		http_answer_stream(a);
}

static void handle_post(
    struct server *server, const struct http_request *request, struct http_answer *a)
{
	struct incoming in;
	struct session *s = NULL;

	if (!post_is_acceptable(request, a))
		return;
	if (incoming_parse(request->body, &in) != 0) {
		http_answer_refuse(
		    a, HTTP_STATUS_BAD_REQUEST, "", RPC_PARSE_ERROR, "The body is not JSON");
		return;
	}
	bool first = in.initialize && !in.batch && !request->fields[FIELD_SESSION_ID].present;
	if (!first)
		s = find_session(server, request, a);
	if (s)
		session_enter(s, &a->exchange);
	if (s || first)
		post_dispatch(server, a, &in);
	incoming_release(&in);
}

static void handle_get(
    struct server *server, const struct http_request *request, struct http_answer *a)
{
	if (!accepts(http_request_field(request, FIELD_ACCEPT), "text/event-stream", "text/*")) {
		refuse(a, HTTP_STATUS_NOT_ACCEPTABLE, "Accept must name text/event-stream");
		return;
	}
	struct session *s = find_session(server, request, a);
	if (!s)
		return;
	session_enter(s, &a->exchange);
	http_answer_stream(a);
	session_stream(s, &a->exchange);
}

static void handle_delete(
    struct server *server, const struct http_request *request, struct http_answer *a)
{
	struct session *s = find_session(server, request, a);

	if (!s)
		return;
	session_end(s);
	http_answer_empty(a, HTTP_STATUS_OK, "");
}

static const struct {
	unsigned method;
	void (*handle)(struct server *, const struct http_request *, struct http_answer *);
} methods[] = {
    {HTTP_POST, handle_post},
    {HTTP_GET, handle_get},
    {HTTP_DELETE, handle_delete},
};

void endpoint_handle(
    struct server *server, const struct http_request *request, struct http_answer *a)
{
	struct span origin = http_request_field(request, FIELD_ORIGIN);
	struct span version = http_request_field(request, FIELD_VERSION);
	enum revision revision;

	a->options.keep_alive = request->keep_alive;
	a->options.close_framed = request->parser.http_minor == 0;
	a->options.no_body = request->parser.method == HTTP_HEAD;
	if (!span_equal(http_request_path(request), SPAN(ENDPOINT_PATH))) {
		refuse(a, HTTP_STATUS_NOT_FOUND, "The endpoint is " ENDPOINT_PATH);
		return;
	}
	if (request->fields[FIELD_ORIGIN].present && !origin_is_local(origin)) {
		refuse(a, HTTP_STATUS_FORBIDDEN, "This Origin is not allowed");
		return;
	}
	/* HTTP+SSE, the transport of 2024-11-05, is another one. */
	if (request->fields[FIELD_VERSION].present &&
	    (!revision_parse(version, &revision) || revision == REVISION_2024_11_05)) {
		refuse(a, HTTP_STATUS_BAD_REQUEST, "MCP-Protocol-Version is not supported");
		return;
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (request->parser.method == methods[i].method) {
			methods[i].handle(server, request, a);
			return;
		}
	}
	http_answer_refuse(a, HTTP_STATUS_METHOD_NOT_ALLOWED, "Allow: GET, POST, DELETE\r\n",
	    RPC_SERVER_ERROR, "Method not allowed");
}

void endpoint_refuse(struct http_answer *a, unsigned status)
{
	refuse(a, status, "The HTTP request was refused");
}
