/*
 * stream: clients that hold an event stream and come back when it ends.
 *
 * Of a session (GET), whose events have ids and are checked for gaps and repeats across streams; or
 * of a subscription (subscriptions/listen), which is had once it was acknowledged. A stream that
 * ends as HTTP wants it, after a whole event, is no failure. The server's `retry` is honoured.
 */
#include <stdio.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "tests/load/driver/client.h"
#include "tests/load/driver/driver.h"

enum { DEPTH_MAX = 64 };

static const double retry_default = 0.05; /* seconds, when the server said none */

static void get_begin(struct client *c)
{
	client_tally(c)->requests++;
	client_send(c, &(struct request){.seen = c->order.id});
}

static void listen_begin(struct client *c)
{
	client_tally(c)->requests++;
	client_send(c, &(struct request){.method = "subscriptions/listen",
			   .params = "\"notifications\":{\"toolsListChanged\":true}",
			   .id = c->id});
}

static void had(struct client *c)
{
	timeout_disarm(&c->driver->deadlines, &c->deadline);
	ev_timer_stop(c->driver->loop, &c->absence);
	report_answered(&c->driver->report, c->kind, clock_microseconds() - c->sent_at);
	c->streaming = true;
}

static int get_streaming(struct client *c)
{
	had(c);
	timeout_arm(&c->driver->silences, &c->silence);
	return 0;
}

static int refuse(struct client *c, const char *why)
{
	c->link.answer.error = why;
	return -1;
}

static void take_id(struct client *c)
{
	char detail[REPORT_DETAIL_MAX];

	snprintf(detail, sizeof(detail), "event %.40s after %.40s", c->marks.id, c->order.id);
	enum order_verdict verdict = order_take(&c->order, c->marks.id);
	if (verdict == ORDER_GAP)
		client_fail(c, FAILURE_GAP, detail, link_port(&c->link));
	else if (verdict == ORDER_REPEAT)
		client_fail(c, FAILURE_REPEAT, detail, link_port(&c->link));
	else if (verdict == ORDER_UNREADABLE)
		client_fail(c, FAILURE_BAD, "event id without a number", link_port(&c->link));
	c->marks.id[0] = '\0'; /* each event has its own */
}

static int get_event(struct client *c, struct span data)
{
	struct envelope message;
	struct envelope_fault fault;

	client_tally(c)->events++;
	timeout_arm(&c->driver->silences, &c->silence);
	if (data.n > 0 && (envelope_scan(data, DEPTH_MAX, &message, &fault) ||
			      message.kind != ENVELOPE_NOTIFICATION))
		return refuse(c, "an event that is no notification");
	if (c->marks.id[0])
		take_id(c);
	else
		client_tally(c)->unnumbered++;
	return 0;
}

static int listen_event(struct client *c, struct span data)
{
	struct envelope message;
	struct envelope_fault fault;

	client_tally(c)->events++;
	timeout_arm(&c->driver->silences, &c->silence);
	if (envelope_scan(data, DEPTH_MAX, &message, &fault))
		return refuse(c, "an event that is no JSON-RPC message");
	if (message.kind != ENVELOPE_NOTIFICATION) {
		bool judged = client_judge(c, data);
		return judged && c->verdict == VERDICT_RESULT ? 0 : refuse(c, "not our result");
	}
	if (!c->streaming &&
	    !span_equal(message.method, SPAN("notifications/subscriptions/acknowledged")))
		return refuse(c, "not acknowledged first");
	if (!c->streaming)
		had(c);
	return 0;
}

/* The stream is gone, or could not be had: have it again. */
static void come_back(struct client *c)
{
	double retry = c->marks.retry > 0 ? c->marks.retry / 1000.0 : retry_default;
	unsigned reopen = c->driver->options.reopen;

	timeout_disarm(&c->driver->silences, &c->silence);
	if (c->driver->ending) {
		client_finish(c);
		return;
	}
	if (reopen > 0 && !ev_is_active(&c->absence)) {
		ev_timer_set(&c->absence, retry + reopen / 1000.0, 0);
		ev_timer_start(c->driver->loop, &c->absence);
	}
	c->streaming = false;
	client_again(c, retry);
}

static void stream_answered(struct client *c)
{
	if (buffer_length(&c->sse.line) > 0 || buffer_length(&c->sse.data) > 0)
		client_fail(c, FAILURE_BAD, "ends within an event", link_port(&c->link));
	else
		client_tally(c)->endings++;
	come_back(c);
}

const struct role get_role = {.letter = 's',
    .begin = get_begin,
    .streaming = get_streaming,
    .event = get_event,
    .answered = stream_answered,
    .failed = come_back,
    .stop = client_finish};

const struct role listen_role = {.letter = 's',
    .begin = listen_begin,
    .event = listen_event,
    .answered = stream_answered,
    .failed = come_back,
    .stop = client_finish};
