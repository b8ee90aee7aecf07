/* http_answer: see http_answer.h. */
#include "master/demo/http_answer.h"

#include <errno.h>
#include <http_parser.h>
#include <stdio.h>

#include "master/demo/session.h"

static void answer_fail(struct http_answer *a)
{
	a->failed = true;
	a->changed(a);
}

static void answer_finish(struct http_answer *a, int error)
{
	a->complete = true;
	if (error)
		a->failed = true;
	a->changed(a);
}

static const char *status_text(unsigned status)
{
	switch (status) {
#define STATUS_TEXT(number, name, text) \
	case number:                    \
		return #text;
		HTTP_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
	default:
		return "";
	}
}

/* A whole header. `framing` says what the body is, as header lines with their CRLF. */
static int answer_head(struct http_answer *a, unsigned status, const char *framing)
{
	const struct session *s = a->options.announce ? a->exchange.session : NULL;

	return output_printf(&a->out, "HTTP/1.1 %u %s\r\n%s%s%s%s%s\r\n", status,
	    status_text(status), framing, s ? "Mcp-Session-Id: " : "", s ? s->id : "",
	    s ? "\r\n" : "", a->options.keep_alive ? "" : "Connection: close\r\n");
}

static int answer_head_json(struct http_answer *a, unsigned status, size_t length)
{
	char framing[96];

	snprintf(framing, sizeof(framing),
	    "Content-Type: application/json\r\nContent-Length: %zu\r\n", length);
	return answer_head(a, status, framing);
}

static void answer_whole(struct http_answer *a, const struct message *m)
{
	int error = answer_head_json(a, a->options.status, message_size(m));

	answer_finish(a, error ? error : message_output(m, &a->out));
}

/* One event: `n` bytes of data follow, then answer_event_end. */
static int answer_event_begin(struct http_answer *a, size_t n)
{
	static const char prefix[] = "event: message\ndata: ";

	if (a->options.close_framed)
		return output_bytes(&a->out, SPAN(prefix));
	return output_printf(
	    &a->out, "%zx\r\n%s", sizeof(prefix) - 1 + n + sizeof("\n\n") - 1, prefix);
}

static int answer_event_end(struct http_answer *a)
{
	return output_bytes(&a->out, a->options.close_framed ? SPAN("\n\n") : SPAN("\n\n\r\n"));
}

static int answer_event(struct http_answer *a, const struct message *m)
{
	int error = answer_event_begin(a, message_size(m));

	if (!error)
		error = message_output(m, &a->out);
	return error ? error : answer_event_end(a);
}

/* What was collected, as an array. */
static int answer_array(struct http_answer *a)
{
	int error = output_bytes(&a->out, SPAN("["));

	output_move(&a->out, &a->collected);
	return error ? error : output_bytes(&a->out, SPAN("]"));
}

static int answer_collect(struct http_answer *a, const struct message *m)
{
	int error = a->collected.total > 0 ? output_bytes(&a->collected, SPAN(",")) : 0;

	return error ? error : message_output(m, &a->collected);
}

void http_answer_stream(struct http_answer *a)
{
	if (a->streaming || a->complete)
		return;
	a->streaming = true;
	if (a->options.close_framed)
		a->options.keep_alive = false;
	int error = answer_head(a, HTTP_STATUS_OK,
	    a->options.close_framed
		? "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
		: "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
		  "Transfer-Encoding: chunked\r\n");
	/* A batch whose first answers were to be JSON: they become the first event. */
	if (!error && a->collected.total > 0) {
		error = answer_event_begin(a, a->collected.total + 2);
		if (!error)
			error = answer_array(a);
		if (!error)
			error = answer_event_end(a);
	}
	if (error)
		answer_fail(a);
	else
		a->changed(a);
}

/* The last answer was given, or none will come any more. */
static void answer_end(struct http_answer *a)
{
	int error = 0;

	if (!a->streaming && a->collected.total > 0) {
		error = answer_head_json(a, a->options.status, a->collected.total + 2);
		answer_finish(a, error ? error : answer_array(a));
		return;
	}
	http_answer_stream(a);
	if (!a->options.close_framed)
		error = output_bytes(&a->out, SPAN("0\r\n\r\n"));
	answer_finish(a, error);
}

static void on_side(struct exchange *x, const struct message *m)
{
	struct http_answer *a = container_of(x, struct http_answer, exchange);

	if (a->complete || a->failed)
		return;
	http_answer_stream(a);
	if (a->out.owned > HTTP_UNREAD_MAX || answer_event(a, m) != 0)
		answer_fail(a);
	else
		a->changed(a);
}

static void on_answer(struct exchange *x, const struct message *m)
{
	struct http_answer *a = container_of(x, struct http_answer, exchange);
	int error = 0;

	if (a->complete || a->failed)
		return;
	if (m && a->options.sse)
		http_answer_stream(a);
	if (m && a->streaming) {
		error = answer_event(a, m);
		a->changed(a);
	} else if (m && a->options.batch) {
		error = answer_collect(a, m);
	} else if (m) {
		answer_whole(a, m);
		return;
	}
	if (error)
		answer_fail(a);
	else if (x->pending == 0)
		answer_end(a);
}

static void on_fail(struct exchange *x)
{
	answer_fail(container_of(x, struct http_answer, exchange));
}

static const struct exchange_ops operations = {on_side, on_answer, on_fail};

void http_answer_init(struct http_answer *a, void (*changed)(struct http_answer *))
{
	*a = (struct http_answer){.changed = changed};
	exchange_init(&a->exchange, &operations);
	output_init(&a->out);
	output_init(&a->collected);
}

void http_answer_reset(struct http_answer *a)
{
	exchange_close(&a->exchange);
	output_release(&a->collected);
	a->options = (struct http_answer_options){0};
	a->streaming = a->complete = false;
}

void http_answer_release(struct http_answer *a)
{
	http_answer_reset(a);
	output_release(&a->out);
}

void http_answer_empty(struct http_answer *a, unsigned status, const char *extra)
{
	char framing[128];

	snprintf(framing, sizeof(framing), "%sContent-Length: 0\r\n", extra);
	answer_finish(a, answer_head(a, status, framing));
}

void http_answer_refuse(
    struct http_answer *a, unsigned status, const char *extra, int code, const char *text)
{
	char framing[128];
	struct message m;
	int error = message_error(&m, NULL, code, text);

	if (!error) {
		snprintf(framing, sizeof(framing),
		    "%sContent-Type: application/json\r\nContent-Length: %zu\r\n", extra,
		    message_size(&m));
		error = answer_head(a, status, framing);
	}
	if (!error && !a->options.no_body)
		error = message_output(&m, &a->out);
	message_release(&m);
	answer_finish(a, error);
}

void http_answer_continue(struct http_answer *a)
{
	if (output_bytes(&a->out, SPAN("HTTP/1.1 100 Continue\r\n\r\n")) != 0)
		answer_fail(a);
	else
		a->changed(a);
}
