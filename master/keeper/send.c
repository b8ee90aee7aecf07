/*
 * send: see send.h.
 *
 * A request's id and progress token become the number of its call, so that two clients with the
 * same id never meet; the answer gets them back (deliver.c). Everything else goes through as it is.
 */
#include "master/keeper/send.h"

#include <errno.h>
#include <stdio.h>

#include "common/ipc/wire.h"
#include "common/raw.h"
#include "master/keeper/intake.h"

enum { NUMBER_TEXT = 24 };

static const struct span initialized = {"notifications/initialized", 25};
static const struct span cancelled = {"notifications/cancelled", 23};
static const struct span subscribe = {"resources/subscribe", 19};
static const struct span unsubscribe = {"resources/unsubscribe", 21};

/* --- writing
 * ---------------------------------------------------------------------------------------- */

void send_failed(struct instance *i, struct peer *p, uint32_t request, int error)
{
	char why[120];

	if (error == -EMSGSIZE)
		snprintf(why, sizeof(why),
		    "it does not read: %zu bytes wait for it (limits.line bounds them)",
		    buffer_length(&i->input));
	else
		snprintf(why, sizeof(why), "%s",
		    error == -EPIPE     ? "it has closed its stdin"
		    : error == -ENOBUFS ? "an id, a token or a URI is too long, or too many are "
					  "subscribed to"
					: "out of memory");
	peer_fail(p, request, error == -EPIPE ? METRIC_REASON_CLOSED : METRIC_REASON_LIMIT, why);
}

unsigned send_splice(struct span text, struct span a, struct span b, struct span with,
    struct span pieces[SEND_PIECES_MAX])
{
	const char *at = text.p;
	unsigned count = 0;

	if (b.p && (!a.p || b.p < a.p)) {
		struct span first = b;
		b = a;
		a = first;
	}
	const struct span places[] = {a, b};
	for (int n = 0; n < 2; n++) {
		if (!places[n].p)
			continue;
		pieces[count++] = (struct span){at, (size_t)(places[n].p - at)};
		pieces[count++] = with;
		at = places[n].p + places[n].n;
	}
	pieces[count++] = (struct span){at, (size_t)(text.p + text.n - at)};
	return count;
}

/* Write a message with up to two places replaced by the call's number. */
static int write_numbered(const struct call *call, struct span text, struct span a, struct span b)
{
	struct span pieces[SEND_PIECES_MAX];
	char number[NUMBER_TEXT];
	int n = snprintf(number, sizeof(number), "%llu", (unsigned long long)call->number);

	return instance_write(call->instance, pieces,
	    send_splice(text, a, b, (struct span){number, (size_t)n}, pieces));
}

int send_call(struct call *call, const struct envelope *e)
{
	return write_numbered(call, e->text, e->id, e->progress_token);
}

/* --- new sessions
 * ----------------------------------------------------------------------------------- */

/* The gate is not open: wait with it, or say why not. */
void send_wait_or_refuse(struct fleet *f, enum fleet_gate gate, struct peer *p,
    const struct frame *frame, struct span payload)
{
	char why[480];

	if (gate == FLEET_WAIT && waiter_create(&f->waiters, &f->waiter_count, p, frame, payload)) {
		fleet_await(f);
		return;
	}
	fleet_gate_text(f, gate, why, sizeof(why));
	peer_fail(p, frame->request, METRIC_REASON_LIMIT, why);
}

void send_wait_for(
    struct instance *i, struct peer *p, const struct frame *frame, struct span payload)
{
	if (!waiter_create(&i->waiters, &i->waiter_count, p, frame, payload))
		peer_fail(p, frame->request, METRIC_REASON_LIMIT, "too many wait for its start");
}

/* A shared child answered initialize once, for all. Clients that speak an earlier revision than it
 * get theirs (mcp-wire, 3.5), others the child's. */
static void answer_shared(struct instance *i, struct peer *p, const struct frame *frame,
    struct span id, struct span wanted)
{
	struct span result = buffer_span(&i->result), version, place = {0};

	/* Its text, within the quotes. */
	if (wanted.n == 10 && raw_member(result, "protocolVersion", &version) && version.n == 12 &&
	    memcmp(wanted.p, version.p + 1, 10) < 0)
		place = (struct span){version.p + 1, 10};
	struct span pieces[3 + SEND_PIECES_MAX] = {
	    SPAN("{\"jsonrpc\":\"2.0\",\"id\":"), id, SPAN(",\"result\":")};
	unsigned count = 3 + send_splice(result, place, (struct span){0}, wanted, pieces + 3);
	pieces[count++] = SPAN("}");
	peer_tell(p, KEEPER_ANSWER, frame->request, i->id, pieces, count);
}

static void open_shared(struct fleet *f, struct peer *p, const struct frame *frame,
    struct span payload, const struct envelope *e)
{
	struct instance *i = fleet_common(f);

	if (i && i->state == INSTANCE_READY) {
		answer_shared(i, p, frame, e->id, e->protocol_version);
		return;
	}
	if (i && i->state != INSTANCE_DOWN) {
		send_wait_for(i, p, frame, payload);
		return;
	}
	enum fleet_gate gate = fleet_gate(f);
	if (gate != FLEET_OPEN) {
		send_wait_or_refuse(f, gate, p, frame, payload);
		return;
	}
	if (!i)
		i = instance_create(f);
	if (!i || !instance_spawn(i)) {
		peer_fail(p, frame->request, METRIC_REASON_CONNECT, f->last_error);
		return;
	}
	send_wait_for(i, p, frame, payload);
	instance_handshake(i);
}

void send_refusal(struct instance *i, struct span error)
{
	struct span id;
	struct waiter *w;

	while ((w = TAILQ_FIRST(&i->waiters))) {
		struct wire_reader r = {.p = w->payload, .length = w->frame.length};
		wire_get_string(&r);
		struct span message = {w->payload + r.offset, w->frame.length - r.offset};
		/* It was scanned before it had to wait. */
		if (!r.error && w->frame.type == KEEPER_OPEN && raw_member(message, "id", &id)) {
			const struct span pieces[] = {SPAN("{\"jsonrpc\":\"2.0\",\"id\":"), id,
			    SPAN(",\"error\":"), error, SPAN("}")};
			peer_tell(w->peer, KEEPER_ANSWER, w->frame.request, i->id, pieces, 5);
		} else {
			peer_fail(w->peer, w->frame.request, METRIC_REASON_CONNECT,
			    "it refused initialize");
		}
		waiter_free(w);
	}
}

struct instance *send_take_child(
    struct fleet *f, struct peer *p, const struct frame *frame, struct span payload)
{
	struct instance *i = fleet_spare(f);
	enum fleet_gate gate = i ? FLEET_OPEN : fleet_gate(f);

	if (gate != FLEET_OPEN) {
		send_wait_or_refuse(f, gate, p, frame, payload);
		return NULL;
	}
	if (i) {
		f->spare--;
		i->state = INSTANCE_STARTING;
	} else if (!(i = instance_create(f)) || !instance_spawn(i)) {
		peer_fail(p, frame->request, METRIC_REASON_CONNECT, f->last_error);
		return NULL;
	}
	return i;
}

static void open_own(struct fleet *f, struct peer *p, const struct frame *frame,
    struct span payload, const struct envelope *e)
{
	struct ev_loop *loop = f->keeper->loop;
	struct instance *i = send_take_child(f, p, frame, payload);

	if (!i)
		return;
	/* A spare one had all the time it liked. */
	ev_timer_stop(loop, &i->timer);
	ev_timer_set(&i->timer, f->config->handshake_timeout, 0);
	ev_timer_start(loop, &i->timer);
	if (!instance_open(i, p, frame, e)) {
		peer_fail(p, frame->request, METRIC_REASON_LIMIT, "out of memory");
		instance_stop(i, "out of memory");
	} else if (send_call(i->calls, e)) {
		instance_fail_start(i, "it does not take its initialize");
	}
}

void send_open(struct fleet *f, struct peer *p, const struct frame *frame, struct span payload,
    struct span message)
{
	const struct envelope *e = &f->keeper->envelope;
	struct envelope_fault fault;

	if (intake_scan(f->keeper, message, &fault) || e->kind != ENVELOPE_REQUEST)
		peer_fail(p, frame->request, METRIC_REASON_PROTOCOL, "initialize is no request");
	else if (f->config->sharing == CONFIG_SHARED)
		open_shared(f, p, frame, payload, e);
	else
		open_own(f, p, frame, payload, e);
}

/* --- messages
 * --------------------------------------------------------------------------------------- */

/* What one frame leads to: how many answers will come, or why it failed. */
struct outcome {
	struct link *link;
	struct peer *peer;
	const struct frame *frame;
	uint32_t answers;
	int error;
};

/* Whether another session of this child subscribed to the resource, too. */
static bool others_subscribe(const struct link *l, struct span uri)
{
	const struct link *other;

	for (other = l->instance->links; other; other = other->hh.next) {
		if (other != l && text_find(&other->uris, uri))
			return true;
	}
	return false;
}

/* Keep the books of a shared child's subscriptions. True when the request was answered here: the
 * child must go on telling others. */
static bool note_subscription(struct outcome *o, const struct envelope *e)
{
	struct link *l = o->link;
	struct text *known = e->uri.p ? text_find(&l->uris, e->uri) : NULL;

	if (!l->instance->shared || !e->uri.p)
		return false;
	if (span_equal(e->method, subscribe) && !known &&
	    (e->uri.n > LINK_TEXT_MAX || !text_add(&l->uris, &l->uri_count, LINK_URIS_MAX, e->uri)))
		o->error = -ENOBUFS;
	if (span_equal(e->method, unsubscribe) && known)
		text_free(&l->uris, &l->uri_count, known);
	if (span_equal(e->method, unsubscribe) || span_equal(e->method, subscribe))
		links_keep(l->instance);
	if (!span_equal(e->method, unsubscribe))
		return o->error != 0;
	if (!others_subscribe(l, e->uri))
		return false;
	const struct span pieces[] = {
	    SPAN("{\"jsonrpc\":\"2.0\",\"id\":"), e->id, SPAN(",\"result\":{}}")};
	peer_tell(o->peer, KEEPER_ANSWER, o->frame->request, l->instance->id, pieces, 3);
	o->answers++;
	return true;
}

static void send_request(struct outcome *o, const struct envelope *e)
{
	struct link *l = o->link;
	struct instance *i = l->instance;

	/* They are kept until the answer comes. */
	if (e->id.n + e->progress_token.n > LINK_TEXT_MAX)
		o->error = -ENOBUFS;
	if (o->error || note_subscription(o, e) || o->error)
		return;
	struct call *call =
	    call_create(i, o->peer, l, o->frame->request, CALL_REQUEST, e->id, e->progress_token);
	o->error = call ? send_call(call, e) : -ENOMEM;
	if (o->error && call)
		call_free(call);
	o->answers += o->error == 0;
}

/* The client no longer wants an answer: the child hears it by its own number, and whoever waits is
 * let go (2025-11-25, cancellation: no response is expected). */
static void send_cancelled(struct outcome *o, const struct envelope *e)
{
	struct link *l = o->link;
	struct call *call, *next;

	HASH_ITER (hh, l->instance->calls, call, next) {
		struct span id = {call->text, call->id_length};
		if (call->link != l || !span_equal(id, e->cancelled_id))
			continue;
		o->error = write_numbered(call, e->text, e->cancelled_id, (struct span){0});
		if (call->peer)
			peer_tell(
			    call->peer, KEEPER_ENDED, call->request, l->instance->id, NULL, 0);
		call_free(call);
		return;
	}
}

/* An answer to what the child asked. A shared child's question went to one session only. */
static void send_response(struct outcome *o, const struct envelope *e)
{
	struct link *l = o->link;
	struct text *asked = text_find(&l->asks, e->id);

	if (l->instance->shared && !asked)
		return;
	if (asked)
		text_free(&l->asks, &l->ask_count, asked);
	o->error = instance_write(l->instance, &e->text, 1);
}

static int send_one(void *context, const struct envelope *e)
{
	struct outcome *o = context;
	bool shared = o->link->instance->shared;

	if (e->kind == ENVELOPE_REQUEST)
		send_request(o, e);
	else if (e->kind != ENVELOPE_NOTIFICATION)
		send_response(o, e);
	else if (span_equal(e->method, cancelled))
		send_cancelled(o, e);
	else if (!shared || !span_equal(e->method, initialized)) /* it had its own */
		o->error = instance_write(o->link->instance, &e->text, 1);
	return o->error;
}

static void restart(struct link *l, struct peer *p, const struct frame *frame, struct span payload)
{
	struct instance *i = l->instance;
	struct fleet *f = i->fleet;
	enum fleet_gate gate = fleet_gate(f);

	if (gate != FLEET_OPEN) {
		send_wait_or_refuse(f, gate, p, frame, payload);
		return;
	}
	i->restarts++;
	send_wait_for(i, p, frame, payload);
	if (instance_spawn(i))
		instance_handshake(i);
}

static void tell_accepted(struct peer *p, const struct frame *frame, uint32_t answers)
{
	struct span count = {(const char *)&answers, sizeof(answers)};

	peer_tell(p, KEEPER_ACCEPTED, frame->request, frame->target, &count, 1);
}

/* --- a batch that is sent in turns
 * ------------------------------------------------------------------ */

/* In between its session or child may have ended. */
static struct link *link_of(const struct waiter *w)
{
	struct session_id session;
	struct instance *i;

	memcpy(session.bytes, w->payload, sizeof(session.bytes));
	HASH_FIND(hh, w->peer->keeper->by_id, &w->frame.target, sizeof(w->frame.target), i);
	return i && instance_serves(i) ? link_find(i, &session) : NULL;
}

static int send_next(void *owner, const struct envelope *e)
{
	struct waiter *w = owner;
	struct outcome o = {
	    .link = link_of(w), .peer = w->peer, .frame = &w->frame, .answers = w->answers};

	if (o.link && !w->taken)
		w->restarts = o.link->instance->restarts;
	if (!o.link || o.link->instance->restarts != w->restarts)
		return -ECANCELED;
	int error = send_one(&o, e);
	w->answers = o.answers;
	w->taken = e->text.p + e->text.n;
	return error;
}

static void on_sent(void *owner, int error, const struct envelope_fault *fault)
{
	struct waiter *w = owner;
	struct link *l = link_of(w);

	(void)fault;
	if (error && (error == -ECANCELED || !l))
		peer_fail(w->peer, w->frame.request, METRIC_REASON_CLOSED,
		    "its child or its session ended before all of the batch was sent");
	else if (error)
		send_failed(l->instance, w->peer, w->frame.request, error);
	else
		tell_accepted(w->peer, &w->frame, w->answers);
	intake_finish(w);
}

void send_message(struct link *l, struct peer *p, const struct frame *frame, struct span payload,
    struct span message)
{
	struct instance *i = l->instance;
	const struct envelope *e = &i->keeper->envelope;
	struct envelope_fault fault;
	struct outcome o = {
	    .link = l, .peer = p, .frame = frame, .answers = intake_owed(i->keeper, message)};

	if (i->state == INSTANCE_DOWN) {
		restart(l, p, frame, payload);
		return;
	}
	if (!instance_serves(i)) {
		send_wait_for(i, p, frame, payload);
		return;
	}
	int error = intake_scan(i->keeper, message, &fault);
	bool single = error == 0 && e->kind == ENVELOPE_REQUEST;
	if (error == -E2BIG && intake_batch(i->keeper, message, send_next, on_sent))
		return;
	if (error == 0)
		error = send_one(&o, e);
	else if (error == -E2BIG)
		error = envelope_batch(message, KEEPER_JSON_DEPTH, send_one, &o, &fault);
	if (error)
		send_failed(i, p, frame->request, error);
	else if (!single)
		tell_accepted(p, frame, o.answers);
}

void send_forget(struct call *call, bool cancel)
{
	struct instance *i = call->instance;
	char text[160];

	TAILQ_REMOVE(&call->peer->calls, call, by_peer);
	call->peer = NULL;
	/* Initialize can't be cancelled (2025-11-25, cancellation); nobody will come for the child.
	 */
	if (call->kind == CALL_OPEN) {
		instance_stop(i, "nobody waits for its start");
		return;
	}
	/* In the stateless era nobody who waits is a cancellation (2026-07-28, cancellation). */
	if (!cancel && call->kind != CALL_ASK)
		return;
	int n = snprintf(text, sizeof(text),
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
	    "\"requestId\":%llu,\"reason\":\"%s\"}}",
	    (unsigned long long)call->number, cancel ? "timed out" : "the client went");
	struct span piece = {text, (size_t)n};
	/* A child that does not take it is in no state to cancel anything. */
	if (instance_write(i, &piece, 1) == 0)
		call_free(call);
}
