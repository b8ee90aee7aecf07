/* inquiry: see inquiry.h. */
#include "worker/mcp/inquiry.h"

#include <stdio.h>

#include "worker/mcp/exchange.h"

static struct inquiry *inquiry_of(struct upstream_call *call)
{
	return container_of(call, struct inquiry, call);
}

/* Whether a message answers; it is then in the worker's envelope. */
static bool is_answer(struct inquiry *q, struct span message)
{
	struct worker *w = q->call.upstream->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	return !envelope_scan(message, w->config->limits.json_depth, e, &fault) &&
	       (e->kind == ENVELOPE_RESULT || e->kind == ENVELOPE_ERROR);
}

static int on_event(struct sse_data *events, struct span data)
{
	struct inquiry *q = container_of(events, struct inquiry, events);

	if (buffer_length(&q->answer) > 0 || !is_answer(q, data))
		return 0;
	return buffer_append(&q->answer, data.p, data.n, INQUIRY_ANSWER_MAX);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct inquiry *q = inquiry_of(call);
	const struct http_header *type = head_find(head, HTTP_CONTENT_TYPE);

	q->status = head->status;
	q->sse = type && header_has_token(type->value, SPAN("text/event-stream"));
	if (q->head)
		q->head(q, head);
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct inquiry *q = inquiry_of(call);
	int error = q->sse ? sse_data_feed(&q->events, p, n, INQUIRY_ANSWER_MAX, on_event)
			   : buffer_append(&q->answer, p, n, INQUIRY_ANSWER_MAX);

	if (!error)
		return;
	upstream_call_cancel(call);
	q->done(q, NULL, METRIC_REASON_PROTOCOL, "its answer is too long");
}

static void on_read_end(struct upstream_call *call)
{
	(void)call;
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct inquiry *q = inquiry_of(call);
	char text[128];

	snprintf(text, sizeof(text), "%s", detail);
	if (reason == UPSTREAM_OK && is_answer(q, buffer_span(&q->answer)))
		q->done(q, &call->upstream->worker->envelope, UPSTREAM_OK, "");
	else
		q->done(q, NULL, reason, text);
}

static const struct upstream_call_ops inquiry_ops = {on_head, on_body, on_read_end, on_end};

int inquiry_send(struct inquiry *q, const struct inquiry_target *target)
{
	struct upstream *u = target->upstream;
	struct buffer head = q->call.head;
	struct span body = buffer_span(&q->body);

	buffer_consume(&q->answer, buffer_length(&q->answer));
	sse_data_release(&q->events);
	q->events = (struct sse_data){0};
	buffer_consume(&head, buffer_length(&head));
	int error = relay_build_head(
	    &head, "POST", u, target->record, (struct span){0}, target->fields, &body);
	q->status = 0;
	q->call = (struct upstream_call){.upstream = u,
	    .ops = &inquiry_ops,
	    .head = head,
	    .body = body,
	    .repeatable = true,
	    .action = target->action,
	    .session = target->session,
	    .child_name = target->record ? target->record->upstream_session : "",
	    .single = !target->notification};
	if (!error)
		upstream_call_start(&q->call);
	return error;
}

void inquiry_cancel(struct inquiry *q)
{
	upstream_call_cancel(&q->call);
}

void inquiry_release(struct inquiry *q)
{
	buffer_release(&q->body);
	buffer_release(&q->call.head);
	buffer_release(&q->answer);
	sse_data_release(&q->events);
}
