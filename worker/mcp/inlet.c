/* inlet: see inlet.h. */
#include "worker/mcp/inlet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/compose.h"
#include "common/turn.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/inlet_call.h"
#include "worker/mcp/translate/translate.h"
#include "worker/policy/clients.h"

enum { TRIES_MAX = 5 };

/* Seconds before a stream that ended is opened again, unless the server says how long. */
static const double again_after = 1, again_most = 60;

/* What a purpose means. */
struct purpose_row {
	const char *method;
	bool bare;    /* not within the session */
	bool counted; /* it is the client's own */
	bool barrier; /* nothing is sent until it is accepted */
	void (*ended)(struct inlet_call *c, const char *detail);
};

static const struct listener inner = {.inner = true};
static const struct upstream_call_ops inlet_call_ops;
static const struct reading_ops reading_ops;

static const struct purpose_row *purpose_of(const struct inlet_call *c);

static struct inlet_call *inlet_call_of(struct upstream_call *call)
{
	return container_of(call, struct inlet_call, call);
}

/* --- into this worker
 * ------------------------------------------------------------------------------- */

static int dial(struct upstream *u)
{
	struct inlet *i = container_of(u, struct inlet, self);
	struct worker *w = i->worker;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	struct client_count *client = clients_acquire(w->clients, &i->peer, 0);
	if (client && !conn_open(w, &inner, &exchange_handler, pair[1], client))
		clients_release(w->clients, client);
	else if (client)
		return pair[0];
	else
		close(pair[1]);
	close(pair[0]);
	return -ENOMEM;
}

/* --- calls
 * ------------------------------------------------------------------------------------------ */

static void on_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("post again");
	(void)loop;
	(void)events;
	inlet_pump(container_of(timer, struct inlet_call, again)->inlet);
}

struct inlet_call *inlet_call_create(
    struct inlet *i, enum inlet_purpose purpose, struct span message, bool copy)
{
	struct inlet_call *c = calloc(1, sizeof(*c));

	if (!c || (copy && buffer_append(&c->body, message.p, message.n, message.n))) {
		free(c);
		return NULL;
	}
	c->text = copy ? buffer_span(&c->body) : message;
	c->inlet = i;
	c->purpose = purpose;
	c->reading.worker = i->worker;
	c->reading.ops = &reading_ops;
	c->reading.bound = INLET_MESSAGE_MAX;
	c->reading.events.marks = &c->marks;
	ev_timer_init(&c->again, on_again, 0, 0);
	c->list = &i->waiting;
	TAILQ_INSERT_TAIL(c->list, c, link);
	i->count += purpose_of(c)->counted;
	i->waiting_bytes += message.n;
	return c;
}

static bool is_waiting(const struct inlet_call *c)
{
	return c->list == &c->inlet->waiting || c->list == &c->inlet->unread;
}

void inlet_call_move(struct inlet_call *c, struct inlet_call_list *list)
{
	struct inlet *i = c->inlet;

	if (is_waiting(c))
		i->waiting_bytes -= c->text.n;
	TAILQ_REMOVE(c->list, c, link);
	c->list = list;
	TAILQ_INSERT_TAIL(list, c, link);
	if (is_waiting(c))
		i->waiting_bytes += c->text.n;
}

void inlet_call_close(struct inlet_call *c)
{
	struct inlet *i = c->inlet;
	struct worker *w = i->worker;

	if (c->list == &w->closed_inlet_calls)
		return;
	upstream_call_cancel(&c->call);
	ev_timer_stop(w->loop, &c->again);
	if (c->scanning)
		scanning_stop(c->scanning);
	reading_stop(&c->reading);
	if (i->barrier == c)
		i->barrier = NULL;
	if (i->stream == c)
		i->stream = NULL;
	i->count -= purpose_of(c)->counted;
	i->listens -= c->listens;
	inlet_call_move(c, &w->closed_inlet_calls);
}

/* It goes on with the stream that broke off, or asks for the one outside of requests. */
static bool is_get(const struct inlet_call *c)
{
	return c->purpose == PURPOSE_STREAM || (c->marks.id[0] && !c->modern);
}

static int build_head(struct inlet_call *c, struct buffer *head)
{
	struct inlet *i = c->inlet;
	const struct purpose_row *row = purpose_of(c);
	bool post = !is_get(c) && strcmp(row->method, "POST") == 0;
	char last[SSE_ID_MAX + 32];
	int n = snprintf(last, sizeof(last), "Last-Event-ID: %s\r\n", c->marks.id);
	struct span body = c->text;

	buffer_consume(head, buffer_length(head));
	return relay_build_head(head, is_get(c) ? "GET" : row->method, &i->self,
	    row->bare || c->modern ? NULL : &i->session, (struct span){0},
	    (struct span){last, c->marks.id[0] && is_get(c) ? (size_t)n : 0}, post ? &body : NULL);
}

static void inlet_call_send(struct inlet_call *c)
{
	struct inlet *i = c->inlet;
	struct buffer head = c->call.head;
	bool message = c->id.n == 0 && purpose_of(c)->counted;

	inlet_call_move(c, &i->calls);
	if (message || purpose_of(c)->barrier)
		i->barrier = c;
	c->sse = c->refused = false;
	c->in_session = !c->modern && i->session.upstream_session[0];
	scanning_free(c->scanning);
	c->scanning = NULL;
	reading_reset(&c->reading);
	int error = build_head(c, &head);
	c->call = (struct upstream_call){.upstream = &i->self,
	    .ops = &inlet_call_ops,
	    .head = head,
	    .body = is_get(c) ? (struct span){0} : c->text,
	    .stream = true, /* the deadlines are those of the request inside */
	    .action = UPSTREAM_POST};
	if (error)
		inlet_call_ops.end(&c->call, METRIC_REASON_LIMIT, "out of memory");
	else
		upstream_call_start(&c->call);
}

/* The first that may be sent; NULL: none. */
static struct inlet_call *next_call(const struct inlet *i)
{
	struct inlet_call *c;

	TAILQ_FOREACH (c, &i->waiting, link) {
		bool ours = !purpose_of(c)->counted && c->purpose != PURPOSE_STREAM;
		if (ev_is_active(&c->again) || (i->reopening && !ours && !c->modern))
			continue;
		return i->barrier && !c->modern ? NULL : c;
	}
	return NULL;
}

void inlet_pump(struct inlet *i)
{
	struct inlet_call *c;

	while (!i->closed && (c = next_call(i)))
		inlet_call_send(c);
}

/* --- answers
 * ---------------------------------------------------------------------------------------- */

static void answer_error(struct inlet_call *c, const char *why)
{
	struct inlet *i = c->inlet;
	struct buffer text = {0};
	struct compose out = {.out = &text, .bound = c->id.n + 1024};

	c->answered = true;
	translate_error(&out, c->id, -32603, span_of(why), (struct span){0});
	if (!out.error)
		i->ops->message(i, buffer_span(&text));
	buffer_release(&text);
}

static void note_initialized(struct inlet_call *c, const struct envelope *e)
{
	struct inlet *i = c->inlet;
	int version = e->kind == ENVELOPE_RESULT && e->protocol_version.p
			  ? mcp_version_find(e->protocol_version)
			  : -1;

	if (version >= 0)
		i->session.version = (uint8_t)version;
	c->answered = true;
}

/* One message of an answer, which was scanned. */
static void take_scanned(
    struct inlet_call *c, struct span message, int error, const struct envelope *e)
{
	struct inlet *i = c->inlet;
	struct worker *w = i->worker;

	bool response = !error && (e->kind == ENVELOPE_RESULT || e->kind == ENVELOPE_ERROR);
	if (c->purpose == PURPOSE_INITIALIZE || c->purpose == PURPOSE_REOPEN) {
		if (response)
			note_initialized(c, e);
		if (c->purpose == PURPOSE_REOPEN)
			return;
	}
	if (error && error != -E2BIG)
		return;
	if (c->refused && c->id.n == 0) {
		/* Nothing that the client could tell from an answer to something else. */
		LOG(w->log, c->purpose == PURPOSE_STREAM ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
		    "a message of the client was refused", LOG_RAW("error", e->error));
		return;
	}
	c->answered |= response && span_equal(e->id, c->id);
	i->ops->message(i, message);
}

static bool is_closed(const struct inlet_call *c)
{
	return c->inlet->closed || c->list == &c->inlet->worker->closed_inlet_calls;
}

static bool on_message(
    struct reading *reading, struct span text, int error, const struct envelope *e)
{
	struct inlet_call *c = container_of(reading, struct inlet_call, reading);

	if (text.n > 0) /* else an event that only tells its id */
		take_scanned(c, text, error, e);
	return is_closed(c);
}

static void take_message(struct inlet_call *c, struct span message)
{
	struct worker *w = c->inlet->worker;
	struct envelope_fault fault;

	int error = envelope_scan(message, w->config->limits.json_depth, &w->envelope, &fault);
	on_message(&c->reading, message, error, &w->envelope);
}

static bool is_type(const struct http_head *head, struct span type)
{
	const struct http_header *h = head_find(head, HTTP_CONTENT_TYPE);

	return h && header_has_token(h->value, type);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct inlet_call *c = inlet_call_of(call);
	struct inlet *i = c->inlet;
	const struct http_header *id = head_find(head, HTTP_MCP_SESSION_ID);

	c->sse = is_type(head, SPAN("text/event-stream"));
	c->refused = head->status >= 400;
	c->expected = head->has_length ? head->content_length : 0;
	c->lost = head->status == 404 && c->in_session && c->purpose != PURPOSE_END;
	if (id && id->value.n < sizeof(i->session.upstream_session)) {
		memcpy(i->session.upstream_session, id->value.p, id->value.n);
		i->session.upstream_session[id->value.n] = '\0';
	}
}

static void fail(struct inlet_call *c)
{
	upstream_call_cancel(&c->call);
	inlet_call_ops.end(&c->call, METRIC_REASON_LIMIT, "its answer is too long");
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct inlet_call *c = inlet_call_of(call);
	struct inlet *i = c->inlet;

	int error =
	    c->sse ? reading_feed(&c->reading, p, n)
		   : buffer_append_part(&c->reading.text, p, n, c->expected, INLET_MESSAGE_MAX);
	if (!i->closed && error < 0)
		fail(c);
}

static void on_read_end(struct upstream_call *call)
{
	struct inlet_call *c = inlet_call_of(call);
	struct inlet *i = c->inlet;

	if (!i->closed && (c->reading.busy || i->ops->congested(i)))
		upstream_call_pause(call);
}

/* --- what ends
 * -------------------------------------------------------------------------------------- */

static void open_stream(struct inlet *i)
{
	if (!i->closed && !i->borrowed && !i->stream && i->session.upstream_session[0])
		i->stream = inlet_call_create(i, PURPOSE_STREAM, (struct span){0}, true);
}

static void send_again(struct inlet_call *c)
{
	double wait = c->marks.retry > 0 ? c->marks.retry / 1000.0 : again_after;

	inlet_call_move(c, &c->inlet->waiting);
	ev_timer_set(&c->again, wait < again_most ? wait : again_most, 0);
	ev_timer_start(c->inlet->worker->loop, &c->again);
}

static bool is_lost(const struct inlet_call *c)
{
	return c->lost && buffer_length(&c->inlet->initialize) > 0;
}

/* The session is not known any more; what met that was not carried out. */
static void reopen(struct inlet_call *c)
{
	struct inlet *i = c->inlet;

	c->lost = false;
	if (c->purpose == PURPOSE_STREAM)
		inlet_call_close(c);
	else
		inlet_call_move(c, &i->waiting);
	if (i->reopening)
		return;
	LOG_TEXT(i->worker->log, LOG_LEVEL_INFO, "the session was forgotten: opened anew");
	i->session.upstream_session[0] = '\0';
	if (i->stream)
		inlet_call_close(i->stream);
	i->reopening =
	    inlet_call_create(i, PURPOSE_REOPEN, buffer_span(&i->initialize), true) != NULL;
}

/* It can't be: whoever waits for the session is told. */
static void fail_waiting(struct inlet *i, const char *why)
{
	struct inlet_call *c, *next;

	i->reopening = false;
	TAILQ_FOREACH_SAFE (c, &i->waiting, link, next) {
		if (c->modern)
			continue;
		if (c->id.n > 0)
			answer_error(c, why);
		if (i->closed)
			return;
		inlet_call_close(c);
	}
}

static void end_reopen(struct inlet_call *c, const char *detail)
{
	static const struct span initialized = {
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", 54};
	struct inlet *i = c->inlet;

	(void)detail;
	if (!i->session.upstream_session[0])
		fail_waiting(i, "The session was lost and can't be opened again");
	else if (!inlet_call_create(i, PURPOSE_INITIALIZED, initialized, true))
		fail_waiting(i, "The session was lost: out of memory");
	inlet_call_close(c);
}

static void end_initialized(struct inlet_call *c, const char *detail)
{
	struct inlet *i = c->inlet;

	(void)detail;
	i->reopening = false;
	inlet_call_close(c);
	open_stream(i);
}

static void end_stream(struct inlet_call *c, const char *detail)
{
	(void)detail;
	if (c->refused)
		inlet_call_close(c);
	else
		send_again(c);
}

static void end_delete(struct inlet_call *c, const char *detail)
{
	(void)detail;
	inlet_call_close(c);
}

/* A stream that ends before the answer came may be gone on with (2025-11-25, transports). */
static bool may_resume(struct inlet_call *c)
{
	return c->id.n > 0 && !c->modern && c->marks.id[0] && !c->refused &&
	       c->inlet->session.upstream_session[0] && ++c->tries <= TRIES_MAX;
}

/* The server knows: no answer will come, or nobody wants it. */
static void forget_cancelled(struct inlet *i)
{
	struct inlet_call *c, *next;

	TAILQ_FOREACH_SAFE (c, &i->calls, link, next) {
		if (c->cancelled)
			inlet_call_close(c);
	}
}

static void end_message(struct inlet_call *c, const char *detail)
{
	struct inlet *i = c->inlet;
	bool initialized = c->initialized && !c->refused;

	if (c->id.n > 0 && !c->answered && !c->cancelled) {
		if (may_resume(c)) {
			send_again(c);
			return;
		}
		answer_error(c, detail[0] ? detail : "The answer ended without a response");
	}
	bool told = c->id.n == 0;
	inlet_call_close(c);
	if (told)
		forget_cancelled(i);
	if (initialized)
		open_stream(i);
}

static const struct purpose_row purposes[] = {
    [PURPOSE_MESSAGE] = {"POST", .counted = true, .ended = end_message},
    [PURPOSE_STREAM] = {"GET", .ended = end_stream},
    [PURPOSE_INITIALIZE] = {"POST", .bare = true, .counted = true, .barrier = true,
	.ended = end_message},
    [PURPOSE_REOPEN] = {"POST", .bare = true, .barrier = true, .ended = end_reopen},
    [PURPOSE_INITIALIZED] = {"POST", .barrier = true, .ended = end_initialized},
    [PURPOSE_END] = {"DELETE", .ended = end_delete},
};

static const struct purpose_row *purpose_of(const struct inlet_call *c)
{
	return &purposes[c->purpose];
}

static void call_over(struct inlet_call *c)
{
	struct inlet *i = c->inlet;

	if (i->closed)
		inlet_call_close(c);
	else if (is_lost(c))
		reopen(c);
	else
		purpose_of(c)->ended(c, c->reading.detail);
	inlet_pump(i);
	if (!i->closed)
		i->ops->progress(i);
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct inlet_call *c = inlet_call_of(call);
	struct inlet *i = c->inlet;
	struct span message = buffer_span(&c->reading.text);

	if (i->barrier == c)
		i->barrier = NULL;
	bool whole = reason == UPSTREAM_OK && !c->sse && !is_lost(c) && !i->closed;
	if (whole && message.n > SCANNING_SHORT && reading_scan(&c->reading))
		whole = false;
	if (reading_end(&c->reading, reason, reason == UPSTREAM_OK ? "" : detail))
		return;
	if (whole)
		take_message(c, message);
	call_over(c);
}

static void on_caught_up(struct reading *reading, int error)
{
	struct inlet_call *c = container_of(reading, struct inlet_call, reading);
	struct inlet *i = c->inlet;

	if (c->list == &i->worker->closed_inlet_calls)
		return;
	if (error)
		fail(c);
	else if (reading->ended)
		call_over(c);
	else if (i->closed || !i->ops->congested(i))
		upstream_call_resume(&c->call);
}

static const struct reading_ops reading_ops = {.message = on_message, .caught_up = on_caught_up};
static const struct upstream_call_ops inlet_call_ops = {on_head, on_body, on_read_end, on_end};

bool inlet_has_room(const struct inlet *i)
{
	return i->count < INLET_REQUESTS_MAX && i->waiting_bytes < INLET_WAITING_MAX;
}

bool inlet_is_idle(const struct inlet *i)
{
	return i->count == i->listens;
}

void inlet_resume(struct inlet *i)
{
	struct inlet_call *c;

	TAILQ_FOREACH (c, &i->calls, link) {
		if (!c->reading.busy)
			upstream_call_resume(&c->call);
	}
}

/* --- life
 * ------------------------------------------------------------------------------------------- */

struct inlet *inlet_open(struct worker *w, const char *path, const struct sockaddr_storage *peer,
    const struct inlet_ops *ops, void *context)
{
	struct inlet *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->worker = w;
	i->ops = ops;
	i->context = context;
	i->peer.ss_family = AF_INET6;
	if (peer)
		i->peer = *peer;
	i->config = (struct config_upstream){.name = (char *)(uintptr_t) "inlet",
	    .kind = CONFIG_HTTP,
	    .target = (char *)(uintptr_t)path,
	    .authority = (char *)(uintptr_t) "margay"};
	i->self = (struct upstream){.worker = w, .config = &i->config, .dial = dial};
	TAILQ_INIT(&i->self.idle);
	TAILQ_INIT(&i->self.waiting);
	TAILQ_INIT(&i->calls);
	TAILQ_INIT(&i->waiting);
	TAILQ_INIT(&i->unread);
	i->session.version = MCP_2025_11_25;
	LIST_INSERT_HEAD(&w->inlets, i, link);
	return i;
}

static void close_calls(struct inlet *i)
{
	while (!TAILQ_EMPTY(&i->calls))
		inlet_call_close(TAILQ_FIRST(&i->calls));
	while (!TAILQ_EMPTY(&i->waiting))
		inlet_call_close(TAILQ_FIRST(&i->waiting));
	while (!TAILQ_EMPTY(&i->unread))
		inlet_call_close(TAILQ_FIRST(&i->unread));
}

void inlet_borrow(struct inlet *i, const struct session_id *session, enum mcp_version version)
{
	session_id_format(session, i->worker->boot->session_key, i->session.upstream_session);
	i->session.version = (uint8_t)version;
	i->borrowed = true;
}

void inlet_go_on(struct inlet *i)
{
	open_stream(i);
	inlet_pump(i);
}

void inlet_leave_session(struct inlet *i)
{
	struct inlet_call *c;

	if (i->stream)
		inlet_call_close(i->stream);
	if (i->session.upstream_session[0] &&
	    (c = inlet_call_create(i, PURPOSE_END, (struct span){0}, true)))
		inlet_call_send(c);
	i->session.upstream_session[0] = '\0';
}

void inlet_close(struct inlet *i, bool end_session)
{
	if (i->closed)
		return;
	i->closed = true;
	close_calls(i);
	if (end_session)
		inlet_leave_session(i);
}

static void inlet_free(struct inlet *i)
{
	while (!TAILQ_EMPTY(&i->self.idle))
		upstream_connection_close(TAILQ_FIRST(&i->self.idle));
	struct worker *w = i->worker;
	LIST_REMOVE(i, link);
	buffer_release(&i->initialize);
	free(i);
	worker_check_done(w);
}

void inlets_free_closed(struct worker *w)
{
	struct inlet *i, *next;
	struct inlet_call *c;

	while ((c = TAILQ_FIRST(&w->closed_inlet_calls))) {
		TAILQ_REMOVE(&w->closed_inlet_calls, c, link);
		buffer_release(&c->call.head);
		buffer_release(&c->body);
		mapping_release(&c->memory);
		reading_release(&c->reading);
		scanning_free(c->scanning);
		free(c);
	}
	LIST_FOREACH_SAFE (i, &w->inlets, link, next) {
		if (i->closed && TAILQ_EMPTY(&i->calls))
			inlet_free(i);
	}
}

void inlets_close(struct worker *w)
{
	struct inlet *i;

	LIST_FOREACH (i, &w->inlets, link) {
		i->closed = true;
		close_calls(i);
	}
	inlets_free_closed(w);
}
