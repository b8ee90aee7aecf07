/*
 * answer: see answer.h.
 *
 * The era of a request is what its _meta says; ids are echoed as they were written. Batches, which
 * one old revision has, are refused.
 */
#include "tests/load/upstream/answer.h"

#include <stdio.h>

#include "common/envelope.h"
#include "common/raw.h"
#include "common/revision.h"
#include "tests/load/upstream/conn.h"
#include "tests/load/upstream/server.h"
#include "tests/load/upstream/session.h"
#include "tests/load/upstream/stream.h"

enum { DEPTH_MAX = 64 };

#define TOOLS                                                                                     \
	"\"tools\":[{\"name\":\"echo\",\"description\":\"Answers with a text of fixed length.\"," \
	"\"inputSchema\":{\"type\":\"object\"}}]"
#define SERVER_INFO "{\"name\":\"margay-load-upstream\",\"version\":\"" MARGAY_VERSION "\"}"
#define MODERN_META "\"_meta\":{\"io.modelcontextprotocol/serverInfo\":" SERVER_INFO "}"
#define CACHING     "\"ttlMs\":0,\"cacheScope\":\"private\""

struct method {
	struct span name;
	bool legacy, modern;
	bool sessionless; /* in the legacy era */
	void (*answer)(struct conn *c, const struct envelope *request);
	struct span result, modern_result; /* what to say, where `answer` is NULL */
};

static void put_status(struct conn *c, const char *status, const char *type, size_t length)
{
	char head[256];
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\n%s%s%sContent-Length: %zu\r\n%s\r\n",
	    status, type ? "Content-Type: " : "", type ? type : "", type ? "\r\n" : "", length,
	    c->close_after ? "Connection: close\r\n" : "");

	conn_put(c, (struct span){head, (size_t)n});
}

static void put_empty(struct conn *c, const char *status)
{
	put_status(c, status, NULL, 0);
}

static void put_error(
    struct conn *c, const char *status, const struct envelope *request, int code, const char *why)
{
	char text[CONN_ID_MAX + 256];
	struct span id =
	    request && request->id.p && request->id.n < CONN_ID_MAX ? request->id : SPAN("null");
	int n = snprintf(text, sizeof(text),
	    "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":%d,\"message\":\"%s\"}}",
	    (int)id.n, id.p, code, why);

	put_status(c, status, "application/json", (size_t)n);
	conn_put(c, (struct span){text, (size_t)n});
}

/* The parts of a JSON-RPC result, as JSON or as the one event of a stream. `session`: of a new one,
 * or NULL. */
static void put_result(struct conn *c, struct span id, const struct span *parts, unsigned count,
    bool sse, const char *session)
{
	static const struct span open = {"{\"jsonrpc\":\"2.0\",\"id\":", 22};
	size_t length = open.n + id.n + 11;
	char head[512];

	for (unsigned i = 0; i < count; i++)
		length += parts[i].n;
	if (sse)
		length += 8;
	int n = snprintf(head, sizeof(head),
	    sse ? "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
		  "Transfer-Encoding: chunked\r\n%s%s%s%s\r\n%zx\r\ndata: "
		: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		  "%s%s%s%sContent-Length: %zu\r\n\r\n",
	    session ? "Mcp-Session-Id: " : "", session ? session : "", session ? "\r\n" : "",
	    c->close_after ? "Connection: close\r\n" : "", length);
	conn_put(c, (struct span){head, (size_t)n});
	conn_put(c, open);
	conn_put(c, id);
	conn_put(c, SPAN(",\"result\":"));
	for (unsigned i = 0; i < count; i++)
		conn_put(c, parts[i]);
	conn_put(c, sse ? SPAN("}\n\n\r\n0\r\n\r\n") : SPAN("}"));
}

/* A server of the legacy era alone knows nothing of `_meta`. */
static bool is_modern(const struct conn *c, const struct envelope *request)
{
	return c->server->options.modern && request->meta_version.p &&
	       span_equal(request->meta_version, SPAN(MCP_STATELESS));
}

static void answer_initialize(struct conn *c, const struct envelope *request)
{
	static const struct span known[] = {
	    {"2025-03-26", 10}, {"2025-06-18", 10}, {"2025-11-25", 10}};
	struct session *session;
	struct span version = known[2];

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (span_equal(request->protocol_version, known[i]))
			version = known[i];
	}
	if (session_create(&c->server->sessions, &session)) {
		put_error(c, "503 Service Unavailable", request, -32603, "no more sessions");
		return;
	}
	const struct span parts[] = {SPAN("{\"protocolVersion\":\""), version,
	    SPAN("\",\"capabilities\":{\"logging\":{},\"tools\":{}},"
		 "\"serverInfo\":" SERVER_INFO "}")};
	put_result(c, request->id, parts, 3, false, session->id);
}

static void answer_call(struct conn *c, const struct envelope *request)
{
	const struct span parts[] = {SPAN("{\"content\":[{\"type\":\"text\",\"text\":\""),
	    buffer_span(&c->server->text),
	    is_modern(c, request) ? SPAN("\"}],\"resultType\":\"complete\"," MODERN_META "}")
				  : SPAN("\"}]}")};

	c->server->counts.calls++;
	put_result(c, request->id, parts, 3, c->server->options.sse, NULL);
}

static void answer_listen(struct conn *c, const struct envelope *request)
{
	struct span wanted;
	struct span changes = {0};

	if (!raw_object(request->params, "notifications", &wanted) ||
	    request->id.n >= CONN_ID_MAX) {
		put_error(c, "400 Bad Request", request, -32602, "notifications are missing");
		return;
	}
	bool tools =
	    raw_member(wanted, "toolsListChanged", &changes) && span_equal(changes, SPAN("true"));
	stream_listen(c, request->id, tools ? SPAN("{\"toolsListChanged\":true}") : SPAN("{}"));
}

static const struct method methods[] = {
    {{"tools/call", 10}, true, true, false, answer_call},
    {{"initialize", 10}, true, false, true, answer_initialize},
    {{"ping", 4}, true, false, false, NULL, {"{}", 2}},
    {{"logging/setLevel", 16}, true, false, false, NULL, {"{}", 2}},
    {{"tools/list", 10}, true, true, false, NULL, {"{" TOOLS "}", sizeof(TOOLS) + 1},
	{"{\"resultType\":\"complete\"," CACHING "," TOOLS "," MODERN_META "}",
	    sizeof("{\"resultType\":\"complete\"," CACHING "," TOOLS "," MODERN_META "}") - 1}},
    {{"server/discover", 15}, false, true, false, NULL, {0},
	{"{\"resultType\":\"complete\",\"supportedVersions\":[\"" MCP_STATELESS "\"],"
	 "\"capabilities\":{\"tools\":{\"listChanged\":true}}," CACHING "," MODERN_META "}",
	    sizeof("{\"resultType\":\"complete\",\"supportedVersions\":[\"" MCP_STATELESS "\"],"
		   "\"capabilities\":{\"tools\":{\"listChanged\":true}}," CACHING "," MODERN_META
		   "}") -
		1}},
    {{"subscriptions/listen", 20}, false, true, false, answer_listen},
};

static const struct method *method_find(struct span name, bool modern)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (span_equal(methods[i].name, name) &&
		    (modern ? methods[i].modern : methods[i].legacy))
			return &methods[i];
	}
	return NULL;
}

/* The session that the request is of; NULL when it was answered with what is wrong about it. */
static struct session *session_of(struct conn *c, const struct envelope *request)
{
	struct session *s = session_find(&c->server->sessions, span_of(c->session_id));

	if (!c->has_session)
		put_error(c, "400 Bad Request", request, -32600, "no session");
	else if (!s)
		put_error(c, "404 Not Found", request, -32001, "session not found");
	return s;
}

static void answer_post(struct conn *c, struct span body)
{
	struct envelope request;
	struct envelope_fault fault;

	if (envelope_scan(body, DEPTH_MAX, &request, &fault)) {
		put_error(c, "400 Bad Request", NULL, fault.code, fault.reason);
		return;
	}
	bool modern = is_modern(c, &request);
	const struct method *method = method_find(request.method, modern);
	if (!modern && !c->server->options.legacy)
		put_error(c, "400 Bad Request", &request, -32602, "protocolVersion is missing");
	else if (modern && !span_equal(span_of(c->version), SPAN(MCP_STATELESS)))
		put_error(c, "400 Bad Request", &request, -32020, "MCP-Protocol-Version");
	else if (!modern && !(method && method->sessionless) && !session_of(c, &request))
		return;
	else if (request.kind != ENVELOPE_REQUEST)
		put_empty(c, "202 Accepted");
	else if (!method)
		put_error(
		    c, modern ? "404 Not Found" : "200 OK", &request, -32601, "unknown method");
	else if (method->answer)
		method->answer(c, &request);
	else
		put_result(c, request.id, modern ? &method->modern_result : &method->result, 1,
		    false, NULL);
}

static void answer_get(struct conn *c, struct span body)
{
	struct session *s = session_of(c, NULL);

	(void)body;
	if (s && !c->wants_stream)
		put_empty(c, "406 Not Acceptable");
	else if (s)
		stream_session(c, s);
}

static void answer_delete(struct conn *c, struct span body)
{
	struct session *s = session_of(c, NULL);

	(void)body;
	if (!s)
		return;
	if (s->stream)
		stream_finish(s->stream);
	session_end(&c->server->sessions, s);
	put_empty(c, "200 OK");
}

static void answer_other(struct conn *c, struct span body)
{
	(void)body;
	put_empty(c, "405 Method Not Allowed");
}

static void (*const verb_answers[])(struct conn *, struct span) = {
    [VERB_OTHER] = answer_other,
    [VERB_POST] = answer_post,
    [VERB_GET] = answer_get,
    [VERB_DELETE] = answer_delete,
};

void answer_request(struct conn *c, struct span body)
{
	if (!c->path)
		put_empty(c, "404 Not Found");
	else if (c->verb != VERB_POST && !c->server->options.legacy)
		answer_other(c, body);
	else
		verb_answers[c->verb](c, body);
}
