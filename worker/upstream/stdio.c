/* stdio: see stdio.h. */
#include "worker/upstream/stdio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/backoff.h"
#include "common/clock.h"
#include "common/ipc/keeper_proto.h"
#include "common/ipc/stream.h"
#include "common/ipc/wire.h"
#include "common/turn.h"
#include "worker/upstream/upstream.h"

enum { CALLS_WAITING_MAX = 10000, CALL_ROWS = 256, CHILD_TEXT = 24 };

struct stdio {
	struct worker *worker;
	struct stream stream;
	bool connected, met; /* there was a connection before */
	ev_timer reconnect;
	struct backoff backoff;
	double connected_at;
	uint32_t last_request;
	struct upstream_call_list calls[CALL_ROWS]; /* sent, by request */
	struct upstream_call_list waiting;
	unsigned call_count, waiting_count;
};

static void keeper_connect(struct stdio *s);
static void send_call(struct stdio *s, struct upstream_call *call);

/* --- the calls that it has
 * ------------------------------------------------------------------------------ */

/* Requests are numbered one by one, so rows are of equal length. */
static struct upstream_call_list *row_of(struct stdio *s, uint32_t request)
{
	return &s->calls[request % CALL_ROWS];
}

static void calls_add(struct stdio *s, struct upstream_call *call)
{
	TAILQ_INSERT_TAIL(row_of(s, call->request), call, link);
	s->call_count++;
}

static void calls_remove(struct stdio *s, struct upstream_call *call)
{
	TAILQ_REMOVE(row_of(s, call->request), call, link);
	s->call_count--;
}

static struct upstream_call *calls_find(struct stdio *s, uint32_t request)
{
	struct upstream_call *call;

	TAILQ_FOREACH (call, row_of(s, request), link) {
		if (call->request == request)
			break;
	}
	return call;
}

/* --- telling the keeper
 * ------------------------------------------------------------------------------ */

static void put(struct stdio *s, enum keeper_type type, const struct upstream_call *call,
    uint16_t flags, struct span a, struct span b)
{
	stream_begin(&s->stream, &(struct frame){.type = (uint16_t)type,
				     .flags = flags,
				     .request = call->request,
				     .target = call->child});
	stream_add(&s->stream, a);
	stream_add(&s->stream, b);
	stream_end(&s->stream);
}

static struct span session_span(const struct session_id *id)
{
	return (struct span){(const char *)id->bytes, sizeof(id->bytes)};
}

static uint64_t child_of(const char *text)
{
	return strtoull(text, NULL, 10);
}

void stdio_bind(struct stdio *s, const struct session_record *record)
{
	/* If this is lost with the connection, the child goes, and its session with it. */
	if (s->connected)
		stream_put(&s->stream,
		    &(struct frame){
			.type = KEEPER_BIND, .target = child_of(record->upstream_session)},
		    session_span(&record->id));
}

/* --- what the callers see
 * ---------------------------------------------------------------------------- */

static void give_head(struct upstream_call *call, unsigned status, bool sse, int64_t length)
{
	struct http_head *head = &call->upstream->worker->head;
	char child[CHILD_TEXT];

	head_clear(head);
	head->status = status;
	head->minor = 1;
	head_add(head, SPAN("content-type"))->value =
	    sse ? SPAN("text/event-stream") : SPAN("application/json");
	if (length >= 0) {
		head->has_length = true;
		head->content_length = (uint64_t)length;
	}
	/* What names the child to all workers is the upstream's session. */
	if (call->action == UPSTREAM_OPEN) {
		snprintf(child, sizeof(child), "%llu", (unsigned long long)call->child);
		head_add(head, SPAN("mcp-session-id"))->value = span_of(child);
	}
	call->answered = true;
	call->ops->head(call, head);
}

static bool is_over(const struct upstream_call *call)
{
	return call->state == CALL_OVER;
}

/* One message as an event. Short ones in one piece, which whoever looks at outcomes can read. */
static void give_event(struct upstream_call *call, struct span message)
{
	static const struct span before = {"event: message\ndata: ", 21}, after = {"\n\n", 2};
	struct worker *w = call->upstream->worker;
	size_t n = before.n + message.n + after.n;

	if (!call->answered)
		give_head(call, 200, true, -1);
	if (is_over(call))
		return;
	if (n <= sizeof(w->scratch)) {
		char *end = mempcpy(w->scratch, before.p, before.n);
		end = mempcpy(end, message.p, message.n);
		memcpy(end, after.p, after.n);
		call->ops->body(call, w->scratch, n);
		return;
	}
	const struct span pieces[] = {before, message, after};
	for (int i = 0; i < 3 && !is_over(call); i++)
		call->ops->body(call, pieces[i].p, pieces[i].n);
}

static void finish(struct upstream_call *call)
{
	call->settled = true;
	upstream_call_end(call, UPSTREAM_OK, "");
}

/* --- frames of the keeper's
 * -------------------------------------------------------------------------- */

static void on_accepted(struct upstream_call *call, const struct frame *frame, struct span payload)
{
	uint32_t answers = 0;

	(void)frame;
	if (payload.n == sizeof(answers))
		memcpy(&answers, payload.p, sizeof(answers));
	call->accepted = true;
	call->pending += (int)answers;
	if (call->action == UPSTREAM_LISTEN) {
		if (!call->answered)
			give_head(call, 200, true, -1);
		if (!is_over(call))
			call->ops->read_end(call);
	} else if (call->pending <= 0) {
		if (!call->answered)
			give_head(call, 202, false, -1);
		if (!is_over(call))
			finish(call);
	}
}

static void on_message(struct upstream_call *call, const struct frame *frame, struct span payload)
{
	struct worker *w = call->upstream->worker;

	call->child = frame->target;
	if (!call->stream)
		upstream_call_deadline(call, &w->timeouts.upstream_between_bytes);
	give_event(call, payload);
	if (!is_over(call))
		call->ops->read_end(call);
}

static void on_answer(struct upstream_call *call, const struct frame *frame, struct span payload)
{
	bool lone = call->single && !call->answered;

	call->child = frame->target;
	call->pending--;
	if (lone)
		give_head(call, call->status_of ? call->status_of(payload) : 200, false,
		    (int64_t)payload.n);
	if (lone && !is_over(call))
		call->ops->body(call, payload.p, payload.n);
	else if (!lone)
		give_event(call, payload);
	if (is_over(call))
		return;
	if (call->accepted && call->pending <= 0)
		finish(call);
	else
		call->ops->read_end(call);
}

static void on_failed(struct upstream_call *call, const struct frame *frame, struct span payload)
{
	char detail[512];
	unsigned reason = payload.n > 0 ? (unsigned char)payload.p[0] : METRIC_REASON_COUNT;
	size_t n = payload.n > 0 ? payload.n - 1 : 0;

	(void)frame;
	n = n < sizeof(detail) - 1 ? n : sizeof(detail) - 1;
	if (n > 0)
		memcpy(detail, payload.p + 1, n);
	detail[n] = '\0';
	call->settled = true;
	upstream_call_end(
	    call, reason < METRIC_REASON_COUNT ? (int)reason : METRIC_REASON_PROTOCOL, detail);
}

static void on_gone(struct upstream_call *call, const struct frame *frame, struct span payload)
{
	(void)frame;
	(void)payload;
	call->settled = true;
	if (call->answered) { /* a stream declared anew */
		finish(call);
		return;
	}
	give_head(call, 404, false, 0);
	if (!is_over(call))
		upstream_call_end(call, METRIC_REASON_CLOSED, "its process has ended");
}

static void on_over(struct upstream_call *call, const struct frame *frame, struct span payload)
{
	(void)frame;
	(void)payload;
	call->settled = true;
	if (!call->answered)
		give_head(call, 200, true, -1);
	if (!is_over(call))
		finish(call);
}

/* As a server over HTTP would say it that does not know the era. */
static void on_legacy(struct upstream_call *call, const struct frame *frame, struct span payload)
{
	(void)frame;
	(void)payload;
	call->settled = true;
	give_head(call, 404, false, 0);
	if (!is_over(call))
		finish(call);
}

static const struct {
	void (*run)(struct upstream_call *call, const struct frame *frame, struct span payload);
} frames[] = {
    [KEEPER_ACCEPTED] = {on_accepted},
    [KEEPER_MESSAGE] = {on_message},
    [KEEPER_ANSWER] = {on_answer},
    [KEEPER_FAILED] = {on_failed},
    [KEEPER_GONE] = {on_gone},
    [KEEPER_ENDED] = {on_over},
    [KEEPER_LEGACY] = {on_legacy},
};

static bool on_frame(struct stream *stream, const struct frame *frame, struct span payload)
{
	struct stdio *s = container_of(stream, struct stdio, stream);
	struct upstream_call *call = calls_find(s, frame->request);

	if (call && frame->type < sizeof(frames) / sizeof(frames[0]) && frames[frame->type].run)
		frames[frame->type].run(call, frame, payload);
	return s->connected;
}

/* --- connection
 * -------------------------------------------------------------------------------------- */

static void wait_for_keeper(struct stdio *s, struct upstream_call *call)
{
	call->sent = false;
	TAILQ_INSERT_TAIL(&s->waiting, call, link);
	s->waiting_count++;
}

static void try_later(struct stdio *s)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)getpid();
	double wait = backoff_failed(&s->backoff, clock_coarse() - s->connected_at, random);
	ev_timer_set(&s->reconnect, wait, 0);
	ev_timer_start(s->worker->loop, &s->reconnect);
}

static void lose_call(struct stdio *s, struct upstream_call *call)
{
	calls_remove(s, call);
	if (call->action == UPSTREAM_LISTEN) {
		wait_for_keeper(s, call);
		return;
	}
	/* It may have been done: never again by itself. */
	call->sent = false;
	call->settled = true;
	upstream_call_end(call, METRIC_REASON_CLOSED, "the keeper ended while this was in flight");
}

static void on_lost(struct stream *stream, const char *why)
{
	struct stdio *s = container_of(stream, struct stdio, stream);

	s->connected = false;
	LOG(s->worker->log, LOG_LEVEL_WARN, "the keeper is lost", LOG_STR("reason", why),
	    LOG_UINT("calls", s->call_count));
	for (unsigned i = 0; i < CALL_ROWS; i++) {
		while (!TAILQ_EMPTY(&s->calls[i]))
			lose_call(s, TAILQ_FIRST(&s->calls[i]));
	}
	try_later(s);
}

static void send_waiting(struct stdio *s)
{
	struct upstream_call *call;

	while (s->connected && (call = TAILQ_FIRST(&s->waiting))) {
		TAILQ_REMOVE(&s->waiting, call, link);
		s->waiting_count--;
		send_call(s, call);
	}
}

static void greet(struct stdio *s)
{
	char hello[16];
	struct wire_writer w = {.p = hello, .capacity = sizeof(hello)};

	wire_put_u16(&w, KEEPER_PROTOCOL);
	wire_put_u16(&w, ROLE_WORKER);
	wire_put_u32(&w, s->worker->boot->generation);
	wire_put_u32(&w, s->worker->boot->number);
	stream_put(
	    &s->stream, &(struct frame){.type = KEEPER_HELLO}, (struct span){hello, w.length});
}

static void keeper_connect(struct stdio *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, s->worker->boot->keeper_path, sizeof(address.sun_path) - 1);
	s->connected_at = clock_coarse();
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (fd >= 0)
			close(fd);
		try_later(s);
		return;
	}
	stream_open(&s->stream, s->worker->loop, fd);
	s->connected = true;
	if (s->met)
		METRIC_ADD(s->worker->metrics, KEEPER_RECONNECTS, 1, 0);
	s->met = true;
	greet(s);
	send_waiting(s);
}

static void on_reconnect(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("keeper reconnect");
	(void)loop;
	(void)events;
	keeper_connect(container_of(timer, struct stdio, reconnect));
}

int stdio_open(struct worker *w, struct stdio **out)
{
	struct stdio *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->worker = w;
	s->backoff = BACKOFF_CONNECT;
	s->stream.frame = on_frame;
	s->stream.ended = on_lost;
	TAILQ_INIT(&s->waiting);
	for (unsigned i = 0; i < CALL_ROWS; i++)
		TAILQ_INIT(&s->calls[i]);
	ev_timer_init(&s->reconnect, on_reconnect, 0, 0);
	*out = s;
	for (size_t i = 0; i < w->config->upstream_count; i++) {
		if (w->config->upstreams[i].kind == CONFIG_STDIO) {
			keeper_connect(s);
			break;
		}
	}
	return 0;
}

void stdio_close(struct stdio *s)
{
	stdio_flush(s);
	ev_timer_stop(s->worker->loop, &s->reconnect);
	stream_close(&s->stream);
	free(s);
}

void stdio_flush(struct stdio *s)
{
	if (s->connected)
		stream_flush(&s->stream);
}

/* --- calls
 * ------------------------------------------------------------------------------------------ */

/* What concerns no child that was there before: for the upstream as a whole. */
static void send_to_upstream(struct stdio *s, enum keeper_type type, struct upstream_call *call)
{
	char name[SESSION_NAME_MAX + 2];
	struct wire_writer w = {.p = name, .capacity = sizeof(name)};

	wire_put_string(&w, span_of(call->upstream->config->name));
	put(s, type, call, 0, (struct span){name, w.length}, call->body);
}

static void send_call(struct stdio *s, struct upstream_call *call)
{
	struct worker_timeouts *t = &s->worker->timeouts;
	struct span session = session_span(&call->session);

	do
		call->request = ++s->last_request;
	while (call->request == 0);
	if (call->action == UPSTREAM_END) {
		call->request = 0;
		put(s, KEEPER_CLOSE, call, 0, session, (struct span){0});
		finish(call);
		return;
	}
	call->sent = true;
	calls_add(s, call);
	if (call->action == UPSTREAM_OPEN)
		send_to_upstream(s, KEEPER_OPEN, call);
	else if (call->action == UPSTREAM_ASK)
		send_to_upstream(s, KEEPER_ASK, call);
	else
		put(s, call->action == UPSTREAM_LISTEN ? KEEPER_LISTEN : KEEPER_SEND, call, 0,
		    session, call->body);
	upstream_call_deadline(call, call->stream ? NULL : &t->upstream_first_byte);
}

void stdio_call_start(struct stdio *s, struct upstream_call *call)
{
	call->by_keeper = true;
	call->state = CALL_ACTIVE;
	call->child = child_of(call->child_name);
	call->accepted = call->single;
	call->pending = call->single ? 1 : 0;
	if (call->body.n > call->upstream->config->stdio.line) {
		call->settled = true;
		upstream_call_end(
		    call, METRIC_REASON_LIMIT, "the message is longer than limits.line");
		return;
	}
	if (s->connected) {
		send_call(s, call);
		return;
	}
	if (s->waiting_count >= CALLS_WAITING_MAX) {
		call->settled = true;
		upstream_call_end(
		    call, METRIC_REASON_LIMIT, "the keeper is away and the line is full");
		return;
	}
	wait_for_keeper(s, call);
	upstream_call_deadline(call, &s->worker->timeouts.upstream_connect);
}

/* Whether another reader of the same child is behind, too. */
static bool others_paused(const struct stdio *s, const struct upstream_call *call)
{
	const struct upstream_call *other;

	for (unsigned i = 0; i < CALL_ROWS; i++) {
		TAILQ_FOREACH (other, &s->calls[i], link) {
			if (other != call && other->paused && other->child == call->child)
				return true;
		}
	}
	return false;
}

void stdio_call_pause(struct upstream_call *call, bool pause)
{
	struct stdio *s = call->upstream->worker->stdio;

	if (!pause && others_paused(s, call))
		return;
	if (s->connected && call->sent)
		put(s, pause ? KEEPER_PAUSE : KEEPER_RESUME, call, 0, (struct span){0},
		    (struct span){0});
}

void stdio_call_detach(struct upstream_call *call, bool cancel)
{
	struct stdio *s = call->upstream->worker->stdio;

	if (call->sent) {
		calls_remove(s, call);
		if (s->connected && call->paused)
			stdio_call_pause(call, false);
		if (s->connected && !call->settled)
			put(s, KEEPER_FORGET, call, cancel ? KEEPER_CANCEL : 0, (struct span){0},
			    (struct span){0});
	} else if (!call->settled) {
		TAILQ_REMOVE(&s->waiting, call, link);
		s->waiting_count--;
	}
	call->sent = false;
	call->settled = true;
}
