/* client: see client.h. Here: the handshake, the way of an answer, the failures. */
#include "tests/load/driver/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/envelope.h"
#include "tests/load/driver/driver.h"

enum { DEPTH_MAX = 64, ANSWER_MAX = 32 << 20 };

static const double pause_after_failure = 0.01; /* seconds: no busy loop while nobody listens */
static const double pause_while_opening = 0.05;

static const struct role *const roles[KINDS] = {
    [KIND_KEEPALIVE_LEGACY] = &caller_role,
    [KIND_KEEPALIVE_MODERN] = &caller_role,
    [KIND_CONNECTS_LEGACY] = &connecting_role,
    [KIND_CONNECTS_MODERN] = &connecting_role,
    [KIND_STREAMS_LEGACY] = &get_role,
    [KIND_STREAMS_MODERN] = &listen_role,
};

static struct client *client_of(struct message *m)
{
	return container_of(m, struct client, link.answer);
}

struct tally *client_tally(struct client *c)
{
	return &c->driver->report.kinds[c->kind];
}

static bool succeeded(const struct client *c)
{
	return c->link.answer.status >= 200 && c->link.answer.status < 300;
}

bool client_judge(struct client *c, struct span message)
{
	struct envelope found;
	struct envelope_fault fault;
	size_t n = strlen(c->id);

	if (envelope_scan(message, DEPTH_MAX, &found, &fault))
		return false;
	if (found.kind == ENVELOPE_REQUEST || found.kind == ENVELOPE_NOTIFICATION)
		return true;
	bool ours = found.id.n == n + 2 && memcmp(found.id.p + 1, c->id, n) == 0;
	bool first = c->verdict == VERDICT_NONE;
	c->verdict = ours && first && found.kind == ENVELOPE_RESULT ? VERDICT_RESULT : VERDICT_BAD;
	return true;
}

static void on_field(struct message *m, struct span name, struct span value)
{
	struct client *c = client_of(m);

	if (c->phase != PHASE_INITIALIZE || !span_equal_nocase(name, SPAN("mcp-session-id")))
		return;
	size_t n = value.n < sizeof(c->session) ? value.n : 0;
	memcpy(c->session, value.p, n);
	c->session[n] = '\0';
}

static int on_head(struct message *m)
{
	struct client *c = client_of(m);

	if (m->close)
		client_tally(c)->asked_to_close++;
	return c->phase == PHASE_WORK && succeeded(c) && m->event_stream && c->role->streaming
		   ? c->role->streaming(c)
		   : 0;
}

static int on_event(struct sse_data *d, struct span data)
{
	struct client *c = container_of(d, struct client, sse);

	if (c->phase == PHASE_WORK && c->role->event)
		return c->role->event(c, data);
	if (data.n > 0 && !client_judge(c, data)) {
		c->link.answer.error = "an event that is no JSON-RPC message";
		return -1;
	}
	return 0;
}

static int on_body(struct message *m, struct span piece)
{
	struct client *c = client_of(m);

	if (m->event_stream)
		return sse_data_feed(&c->sse, piece.p, piece.n, ANSWER_MAX, on_event);
	return buffer_append(&c->body, piece.p, piece.n, ANSWER_MAX);
}

static void on_connected(struct link *l)
{
	struct client *c = container_of(l, struct client, link);

	client_tally(c)->connects++;
	if (c->connects++ > 0 && !c->fresh)
		client_tally(c)->reconnects++;
	c->first[0] = c->before[0] = '\0';
}

static void on_idle_closed(struct link *l)
{
	client_tally(container_of(l, struct client, link))->idle_closes++;
}

void client_fail(struct client *c, enum failure what, const char *detail, unsigned port)
{
	struct failure_row row = {.kind = c->kind,
	    .failure = what,
	    .port = port,
	    .status = what == FAILURE_STATUS ? c->link.answer.status : 0,
	    .after = clock_microseconds() - c->sent_at,
	    .opening = !c->opened_once};

	memcpy(row.id, c->id, sizeof(row.id));
	memcpy(row.first, c->first, sizeof(row.first));
	memcpy(row.before, c->before, sizeof(row.before));
	memcpy(row.session, c->session, sizeof(row.session));
	snprintf(row.detail, sizeof(row.detail), "%s", detail);
	report_failed(&c->driver->report, &row);
}

static void opening_failed(struct client *c)
{
	if (c->driver->ending) {
		client_finish(c);
	} else if (!c->opened_once && clock_coarse() >= c->driver->opening_until) {
		c->gave_up = true;
		client_finish(c);
		driver_opened(c->driver, c);
	} else {
		client_again(c, pause_while_opening);
	}
}

/* Counted already. */
static void after_failure(struct client *c)
{
	timeout_disarm(&c->driver->deadlines, &c->deadline);
	if (c->phase != PHASE_WORK)
		opening_failed(c);
	else
		c->role->failed(c);
}

static void on_lost(struct link *l, enum failure what, const char *detail, unsigned port)
{
	struct client *c = container_of(l, struct client, link);

	client_fail(c, what, detail, port);
	after_failure(c);
}

static void send_initialized(struct client *c)
{
	c->phase = PHASE_INITIALIZED;
	client_send(c, &(struct request){.method = "notifications/initialized"});
}

static void opened(struct client *c)
{
	bool first = !c->opened_once;

	c->phase = PHASE_WORK;
	c->opened_once = true;
	if (c->driver->ending)
		client_finish(c);
	if (first)
		driver_opened(c->driver, c);
	else
		client_begin(c);
}

/* A 404 within a session: it is gone, and a client opens another. */
static void reopen(struct client *c)
{
	client_tally(c)->reopened++;
	c->session[0] = '\0';
	c->order = (struct order){0};
	c->phase = PHASE_INITIALIZE;
	client_again(c, pause_after_failure);
}

static void refused(struct client *c, enum failure what, const char *detail)
{
	client_fail(c, what, detail, link_port(&c->link));
	if (what == FAILURE_BAD)
		link_close(&c->link);
	if (what == FAILURE_STATUS && c->link.answer.status == 404 && c->phase == PHASE_WORK &&
	    !c->modern && !c->driver->ending) {
		timeout_disarm(&c->driver->deadlines, &c->deadline);
		reopen(c);
		return;
	}
	after_failure(c);
}

/* Whether the whole answer is what the phase wants; a literal that says what it is instead. */
static const char *wrong_about(struct client *c)
{
	const struct message *m = &c->link.answer;

	if (c->phase == PHASE_INITIALIZED)
		return NULL;
	if (c->phase == PHASE_WORK && c->streaming)
		return NULL;
	if (!m->event_stream && !m->json)
		return "neither JSON nor an event stream";
	if (m->json && !client_judge(c, buffer_span(&c->body)))
		return "no JSON-RPC message";
	if (c->verdict == VERDICT_NONE)
		return "ends without the result";
	if (c->verdict == VERDICT_BAD)
		return "not the result of this request";
	return c->phase == PHASE_INITIALIZE && !c->session[0] ? "no session id" : NULL;
}

static void on_done(struct link *l)
{
	struct client *c = container_of(l, struct client, link);
	char status[REPORT_DETAIL_MAX];

	timeout_disarm(&c->driver->deadlines, &c->deadline);
	const char *wrong = succeeded(c) ? wrong_about(c) : NULL;
	if (!succeeded(c) || wrong) {
		struct span body = buffer_span(&c->body);
		snprintf(status, sizeof(status), "%.*s", (int)(body.n < 90 ? body.n : 90), body.p);
		refused(c, wrong ? FAILURE_BAD : FAILURE_STATUS, wrong ? wrong : status);
		return;
	}
	memcpy(c->before, c->id, sizeof(c->before));
	if (!c->first[0])
		memcpy(c->first, c->id, sizeof(c->first));
	if (c->fresh)
		link_close(l);
	if (c->phase == PHASE_INITIALIZE)
		send_initialized(c);
	else if (c->phase == PHASE_INITIALIZED)
		opened(c);
	else
		c->role->answered(c);
}

static const struct link_ops ops = {
    .answer = {on_field, on_head, on_body},
    .connected = on_connected,
    .done = on_done,
    .lost = on_lost,
    .idle_closed = on_idle_closed,
};

static void on_again(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct client *c = container_of(watcher, struct client, again);

	(void)loop;
	(void)events;
	if (c->phase == PHASE_WORK)
		c->role->begin(c);
	else
		client_open(c);
}

static void on_absence(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct client *c = container_of(watcher, struct client, absence);

	(void)loop;
	(void)events;
	client_fail(c, FAILURE_ABSENT, "stream not had again in time", 0);
}

void client_init(struct client *c, struct driver *d, enum kind kind, unsigned number)
{
	c->driver = d;
	c->role = roles[kind];
	c->kind = kind;
	c->number = number;
	c->modern = kind == KIND_KEEPALIVE_MODERN || kind == KIND_CONNECTS_MODERN ||
		    kind == KIND_STREAMS_MODERN;
	c->fresh = c->role == &connecting_role;
	link_init(&c->link, d->loop, &d->options.address, &ops);
	ev_timer_init(&c->again, on_again, 0, 0);
	ev_timer_init(&c->absence, on_absence, 0, 0);
	client_tally(c)->clients++;
}

void client_open(struct client *c)
{
	if (c->modern) {
		opened(c);
		return;
	}
	c->phase = PHASE_INITIALIZE;
	c->session[0] = '\0';
	client_send(
	    c, &(struct request){.method = "initialize",
		   .params = "\"protocolVersion\":\"" REQUEST_LEGACY "\",\"capabilities\":{},"
			     "\"clientInfo\":{\"name\":\"margay-load\",\"version\":\"1\"}",
		   .id = c->id});
}

void client_begin(struct client *c)
{
	if (!c->gave_up && !c->finished)
		c->role->begin(c);
}

void client_send(struct client *c, struct request *r)
{
	r->modern = c->modern;
	r->session = c->session;
	r->close = c->fresh;
	snprintf(c->id, sizeof(c->id), "%c%u:%" PRIu64, c->role->letter, c->number, ++c->ids);
	buffer_consume(&c->body, buffer_length(&c->body));
	sse_data_release(&c->sse);
	c->sse = (struct sse_data){.marks = &c->marks};
	c->marks = (struct sse_marks){.retry = c->marks.retry};
	c->verdict = VERDICT_NONE;
	c->sent_at = clock_microseconds();
	if (request_write(&c->request, &c->driver->options, r)) {
		on_lost(&c->link, FAILURE_LOCAL, "request too long, or no memory", 0);
		return;
	}
	timeout_arm(&c->driver->deadlines, &c->deadline);
	link_send(&c->link, buffer_span(&c->request));
}

void client_again(struct client *c, double seconds)
{
	ev_timer_stop(c->driver->loop, &c->again);
	ev_timer_set(&c->again, seconds, 0);
	ev_timer_start(c->driver->loop, &c->again);
}

void client_stop(struct client *c)
{
	if (c->finished)
		return;
	if (c->phase == PHASE_WORK && c->role->stop)
		c->role->stop(c);
	else if (c->link.state != LINK_BUSY && c->link.state != LINK_CONNECTING)
		client_finish(c);
}

void client_finish(struct client *c)
{
	if (c->finished)
		return;
	c->finished = true;
	timeout_disarm(&c->driver->deadlines, &c->deadline);
	timeout_disarm(&c->driver->silences, &c->silence);
	ev_timer_stop(c->driver->loop, &c->again);
	ev_timer_stop(c->driver->loop, &c->absence);
	link_close(&c->link);
	driver_finished(c->driver);
}

void client_release(struct client *c)
{
	link_close(&c->link);
	buffer_release(&c->request);
	buffer_release(&c->body);
	sse_data_release(&c->sse);
}
