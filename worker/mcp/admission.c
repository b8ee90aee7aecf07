/*
 * admission: what may pass, and as what (mcp-wire 1.2-1.4, 2.2).
 *
 * Head first: Host, Origin, route, HTTP method, media types, length. Then, with the body, the
 * message: a single one or a batch, of which era; and its session, which must exist, belong to this
 * route and speak its revision. Whatever is refused is refused before anything reached an upstream.
 */
#include <errno.h>
#include <stdio.h>

#include "worker/mcp/http_sse.h"
#include "worker/mcp/modern.h"
#include "worker/mcp/scanning.h"
#include "worker/mcp/streams.h"
#include "worker/mcp/up.h"
#include "worker/policy/origin.h"
#include "worker/route.h"

static const struct span no_data = {0};

static void refuse(struct exchange *x, enum reply_id reply)
{
	exchange_refuse(x, reply, NULL, no_data);
}

static void copy_text(char *out, size_t size, struct span from)
{
	size_t n = from.n < size - 1 ? from.n : size - 1;

	if (n > 0)
		memcpy(out, from.p, n);
	out[n] = '\0';
}

/* Fields that travel on as they are. Everything else stops here: hop-by-hop fields, Authorization,
 * Cookie. */
static const enum http_field forwarded[] = {HTTP_LAST_EVENT_ID, HTTP_TRACEPARENT, HTTP_TRACESTATE};

static int keep_forwarded(struct exchange *x, const struct http_head *head)
{
	size_t bound = x->worker->config->limits.header_size;

	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++) {
		const struct http_header *h = head_find(head, forwarded[i]);
		if (!h)
			continue;
		int error = BUFFER_ADD(&x->forward, bound, http_field_names[forwarded[i]],
		    SPAN(": "), h->value, SPAN("\r\n"));
		if (error)
			return error;
	}
	return 0;
}

static bool accepts(const struct http_head *head, struct span type)
{
	const struct http_header *accept = head_find(head, HTTP_ACCEPT);

	return accept && (header_has_token(accept->value, type) ||
			     header_has_token(accept->value, SPAN("*/*")));
}

/* False when the request was refused. */
static bool admit_media(struct exchange *x, const struct http_head *head)
{
	const struct http_header *type = head_find(head, HTTP_CONTENT_TYPE);

	if (x->kind == EXCHANGE_DELETE)
		return true;
	if (x->kind == EXCHANGE_STREAM) {
		if (accepts(head, SPAN("text/event-stream")))
			return true;
		refuse(x, REPLY_STREAM_NOT_ACCEPTABLE);
		return false;
	}
	if (!type || !header_has_token(type->value, SPAN("application/json"))) {
		refuse(x, REPLY_CONTENT_TYPE);
		return false;
	}
	if (!x->is_http_sse && (!accepts(head, SPAN("application/json")) ||
				   !accepts(head, SPAN("text/event-stream")))) {
		refuse(x, REPLY_NOT_ACCEPTABLE);
		return false;
	}
	if (head->has_length && head->content_length > x->worker->config->limits.body_size) {
		refuse(x, REPLY_TOO_LARGE);
		return false;
	}
	x->body_length = head->has_length ? head->content_length : 0;
	return true;
}

/* False when the request was refused. */
static bool admit_place(struct exchange *x, const struct http_head *head)
{
	const struct config_listen *listen = x->conn->listener->config;
	const struct http_header *origin = head_find(head, HTTP_ORIGIN);
	static const struct {
		unsigned method;
		enum exchange_kind kind;
		enum metric_method class;
	} kinds[] = {
	    {HTTP_POST, EXCHANGE_POST, METRIC_METHOD_OTHER},
	    {HTTP_GET, EXCHANGE_STREAM, METRIC_METHOD_STREAM},
	    {HTTP_DELETE, EXCHANGE_DELETE, METRIC_METHOD_DELETE},
	};

	bool inner = x->conn->listener->inner;

	if (!inner && !host_allowed(listen, head->host)) {
		refuse(x, REPLY_BAD_HOST);
		return false;
	}
	if (!inner && origin && !origin_allowed(listen, origin->value)) {
		refuse(x, REPLY_BAD_ORIGIN);
		return false;
	}
	x->route = route_find(x->worker, head->target);
	if (!x->route) {
		refuse(x, REPLY_NO_ROUTE);
		return false;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].method != head->method)
			continue;
		x->kind = kinds[i].kind;
		x->class = kinds[i].class;
		return true;
	}
	refuse(x, REPLY_BAD_METHOD);
	return false;
}

void admission_head(struct exchange *x, const struct http_head *head)
{
	const struct http_header *session = head_find(head, HTTP_MCP_SESSION_ID);
	const struct http_header *version = head_find(head, HTTP_MCP_PROTOCOL_VERSION);
	const struct http_header *trace = head_find(head, HTTP_TRACEPARENT);

	if (!admit_place(x, head))
		return;
	x->is_http_sse = http_sse_head(x, head);
	if (!admit_media(x, head))
		return;
	if (x->is_http_sse)
		return;
	if (keep_forwarded(x, head) || modern_head(x, head)) {
		refuse(x, REPLY_NO_MEMORY);
		return;
	}
	if (trace)
		copy_text(x->trace, sizeof(x->trace), trace->value);
	if (version)
		copy_text(x->version, sizeof(x->version), version->value);
	if (session) {
		x->has_session = sessions_parse(x->worker->sessions, session->value, &x->session);
		x->bad_session = !x->has_session;
	}
}

static void lookup_done(struct session_call *call, int status, const struct session_record *record);

/* The session is there: does this request fit it? Then on to the upstream. */
static void with_session(struct exchange *x, const struct session_record *record)
{
	struct worker *w = x->worker;
	const struct mcp_version_row *row = &mcp_versions[record->version];

	if (strcmp(record->route, x->route->config->path) != 0) {
		refuse(x, REPLY_UNKNOWN_SESSION);
		return;
	}
	if (x->version[0] && !span_equal(span_of(x->version), row->date)) {
		char detail[80];
		snprintf(detail, sizeof(detail), "this session speaks %.*s", (int)row->date.n,
		    row->date.p);
		exchange_refuse(x, REPLY_VERSION, detail, no_data);
		return;
	}
	if (x->is_batch && !row->batches) {
		refuse(x, REPLY_BATCH);
		return;
	}
	if (x->kind == EXCHANGE_STREAM) {
		x->counted_stream =
		    streams_acquire(w->streams, &x->session, w->config->limits.streams_per_session);
		if (!x->counted_stream) {
			refuse(x, REPLY_STREAM_LIMIT);
			return;
		}
	}
	x->revision = record->version;
	relay_start(x, record);
}

static void lookup_done(struct session_call *call, int status, const struct session_record *record)
{
	struct exchange *x = container_of(call, struct exchange, lookup);

	if (status == 0)
		with_session(x, record);
	else
		refuse(x, status == -ENOENT ? REPLY_UNKNOWN_SESSION : REPLY_BROKER_AWAY);
}

static void find_session(struct exchange *x)
{
	int error = 0;

	x->lookup.done = lookup_done;
	const struct session_record *record =
	    sessions_get(x->worker->sessions, &x->session, &x->lookup, &error);
	if (record)
		with_session(x, record);
	else if (error)
		refuse(x, error == -ENOENT ? REPLY_UNKNOWN_SESSION : REPLY_BROKER_AWAY);
}

static void classify(struct exchange *x, const struct envelope *e)
{
	x->id = e->id;
	x->is_request = e->kind == ENVELOPE_REQUEST;
	if (e->name.p) /* and never a URI, which may carry secrets */
		copy_text(x->name, sizeof(x->name), e->name);
	if (e->kind == ENVELOPE_RESULT || e->kind == ENVELOPE_ERROR) {
		x->class = METRIC_METHOD_RESPONSE;
		copy_text(x->method_name, sizeof(x->method_name), SPAN("response"));
		return;
	}
	copy_text(x->method_name, sizeof(x->method_name), e->method);
	x->method = mcp_method_find(e->method);
	x->class = x->is_request ? x->method->class : METRIC_METHOD_NOTIFICATION;
	x->is_initialize = x->is_request && x->class == METRIC_METHOD_INITIALIZE;
}

static int batch_member(void *context, const struct envelope *e)
{
	struct exchange *x = context;

	if (e->kind == ENVELOPE_REQUEST)
		x->batch_has_requests = true;
	/* `initialize` must not be in a batch (2025-03-26, lifecycle). */
	return e->method.p && span_equal(e->method, SPAN("initialize")) ? -EPERM : 0;
}

static void refuse_fault(struct exchange *x, const struct envelope_fault *fault)
{
	char detail[160];

	snprintf(detail, sizeof(detail), "%s at byte %zu", fault->reason, fault->offset);
	exchange_refuse(
	    x, fault->code == -32700 ? REPLY_PARSE_ERROR : REPLY_INVALID, detail, no_data);
}

static void start_initialize(struct exchange *x, const struct envelope *e)
{
	if (!e->protocol_version.p) {
		refuse(x, REPLY_INITIALIZE_VERSION);
		return;
	}
	x->has_session = false;
	if (era_is_modern_only(x->route->upstream))
		up_initialize(x);
	else
		relay_start(x, NULL);
}

static void admit_session(struct exchange *x)
{
	if (x->bad_session)
		refuse(x, REPLY_UNKNOWN_SESSION);
	else if (x->has_session)
		find_session(x);
	else
		refuse(x, x->kind == EXCHANGE_POST ? REPLY_NO_SESSION : REPLY_NOT_HERE);
}

static void batch_scanned(void *owner, int error, const struct envelope_fault *fault)
{
	struct exchange *x = owner;

	if (error == -EPERM)
		exchange_refuse(x, REPLY_INVALID, "initialize must not be in a batch", no_data);
	else if (error)
		refuse_fault(x, fault);
	else if (mcp_version_is_modern(span_of(x->version)))
		refuse(x, REPLY_BATCH);
	else if (!conn_left(x->conn))
		admit_session(x);
}

static void admit_batch(struct exchange *x)
{
	struct envelope_fault fault;
	struct span text = buffer_span(&x->body);

	x->is_batch = true;
	copy_text(x->method_name, sizeof(x->method_name), SPAN("batch"));
	if (text.n <= SCANNING_SHORT) {
		int error = envelope_batch(
		    text, x->worker->config->limits.json_depth, batch_member, x, &fault);
		batch_scanned(x, error, &fault);
		return;
	}
	scanning_free(x->scanning);
	x->scanning = scanning_start_batch(x->worker, text, batch_member, batch_scanned, x);
	if (!x->scanning)
		refuse(x, REPLY_NO_MEMORY);
}

/* The body was scanned, into the worker's envelope. */
static void admit_message(void *owner, int error, const struct envelope_fault *fault)
{
	struct exchange *x = owner;
	const struct envelope *e = &x->worker->envelope;

	if (error == -E2BIG) {
		admit_batch(x);
		return;
	}
	if (error) {
		x->id = e->id;
		refuse_fault(x, fault);
		return;
	}
	classify(x, e);
	if (conn_left(x->conn) || modern_admit(x, e))
		return;
	if (x->is_initialize)
		start_initialize(x, e);
	else
		admit_session(x);
}

static void admit_post(struct exchange *x)
{
	struct envelope_fault fault;
	struct span text = buffer_span(&x->body);

	if (text.n <= SCANNING_SHORT) {
		admit_message(x,
		    envelope_scan(
			text, x->worker->config->limits.json_depth, &x->worker->envelope, &fault),
		    &fault);
		return;
	}
	x->scanning = scanning_start(x->worker, text, admit_message, x);
	if (!x->scanning)
		refuse(x, REPLY_NO_MEMORY);
}

void admission_complete(struct exchange *x)
{
	if (x->is_http_sse)
		http_sse_start(x);
	else if (x->kind == EXCHANGE_POST)
		admit_post(x);
	else
		admit_session(x);
}
