/*
 * deliver: a child's line on its way to the session that it is for.
 *
 * Answers and progress are told by their number. What carries no link to a request goes, in a child
 * of one session, to that session; in a shared one to whom it can only be for (mcp-wire, 3.3): the
 * one request in flight, the subscribers of a resource, or everybody when a list changed. What may
 * be for anybody goes to nobody.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/raw.h"
#include "master/keeper/send.h"
#include "master/keeper/stateless.h"

static const struct span progress = {"notifications/progress", 22};
static const struct span cancelled = {"notifications/cancelled", 23};
static const struct span updated = {"notifications/resources/updated", 31};
static const struct span list_changed = {"/list_changed", 13};

/* The number in an id or token of ours; 0 when it is none. */
static uint64_t number_of(struct span raw)
{
	uint64_t value = 0;

	if (raw.n == 0 || raw.n > 19)
		return 0;
	for (size_t i = 0; i < raw.n; i++) {
		if (raw.p[i] < '0' || raw.p[i] > '9')
			return 0;
		value = value * 10 + (uint64_t)(raw.p[i] - '0');
	}
	return value;
}

struct call *deliver_call_of(struct instance *i, struct span raw)
{
	uint64_t number = number_of(raw);
	struct call *call = NULL;

	if (number > 0)
		HASH_FIND(hh, i->calls, &number, sizeof(number), call);
	return call;
}

/* Tell a peer, and read no more of this child while the peer has too much to read. */
static void tell(struct instance *i, struct peer *p, uint16_t type, uint32_t request,
    const struct span *pieces, unsigned count)
{
	peer_tell(p, type, request, i->id, pieces, count);
	if (stream_waiting(&p->stream) < PEER_HIGH_WATER)
		return;
	if (p->congested_since <= 0)
		p->congested_since = clock_coarse();
	i->stalled_by = p;
	instance_update(i);
}

void deliver_to(struct call *call, uint16_t type, struct span message, struct span a, struct span b)
{
	struct span id = {call->text, call->id_length}, pieces[SEND_PIECES_MAX];

	tell(call->instance, call->peer, type, call->request, pieces,
	    send_splice(message, a, b, id, pieces));
}

void deliver_refuse(struct instance *i, struct span id, int code, const char *why)
{
	char head[] = "{\"jsonrpc\":\"2.0\",\"id\":", tail[256];
	int n =
	    snprintf(tail, sizeof(tail), ",\"error\":{\"code\":%d,\"message\":\"%s\"}}", code, why);
	const struct span pieces[] = {SPAN(head), id, {tail, (size_t)n}};

	if (instance_write(i, pieces, 3))
		LOG(i->keeper->log, LOG_LEVEL_WARN, "a child's question could not be answered",
		    LOG_STR("upstream", i->fleet->name), LOG_INT("child_pid", i->pid));
}

/* --- answers
 * ---------------------------------------------------------------------------------------- */

/* Those who opened a session are told as it said it, and it may be of the stateless era. */
static void refused_handshake(struct instance *i, const struct envelope *e)
{
	if (!i->shared || i->refuses_initialize) {
		instance_fail_start(i, "it refused initialize");
		return;
	}
	i->refuses_initialize = true;
	i->fleet->legacy = false;
	send_refusal(i, e->error);
	if (stateless_find(i->fleet))
		instance_stop(i, "it has no sessions, and there is one for all");
	else
		stateless_probe(i);
}

/* The answer to an initialize of ours. */
static void take_handshake(struct instance *i, const struct envelope *e)
{
	static const struct span done = {
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", 54};

	if (e->kind != ENVELOPE_RESULT) {
		refused_handshake(i, e);
		return;
	}
	buffer_release(&i->result);
	if ((i->shared &&
		buffer_append(&i->result, e->result.p, e->result.n, STREAM_MESSAGE_MAX)) ||
	    instance_write(i, &done, 1)) {
		instance_fail_start(i, "out of memory");
		return;
	}
	instance_ready(i);
	waiters_run(&i->waiters);
}

/* The answer to a listen repeats its id (2026-07-28, subscriptions). */
static struct span subscription_of(const struct call *call, const struct envelope *e)
{
	struct span meta, id = {0};

	if (call->listens && e->kind == ENVELOPE_RESULT && raw_object(e->result, "_meta", &meta))
		raw_member(meta, "io.modelcontextprotocol/subscriptionId", &id);
	return id;
}

static void deliver_answer(struct instance *i, const struct envelope *e, struct span line)
{
	struct call *call = deliver_call_of(i, e->id);
	enum call_kind kind;

	if (!call) {
		noise_dropped(i, METRIC_DROP_UNKNOWN_ID, line);
		return;
	}
	kind = call->kind;
	/* It may be another program by now. */
	if (kind == CALL_OPEN && e->kind == ENVELOPE_ERROR)
		i->fleet->legacy = false;
	if (call->peer)
		deliver_to(call, KEEPER_ANSWER, line, e->id, subscription_of(call, e));
	call_free(call);
	if (kind == CALL_DISCOVER || kind == CALL_PING)
		stateless_probed(i, kind, e);
	else if (kind == CALL_HANDSHAKE)
		take_handshake(i, e);
	else if (kind == CALL_OPEN && i->state == INSTANCE_STARTING)
		/* An error makes no session; then its worker closes it. */
		instance_ready(i);
}

static void deliver_progress(struct instance *i, const struct envelope *e, struct span line)
{
	struct call *call = deliver_call_of(i, e->progress_of);
	struct span pieces[SEND_PIECES_MAX];

	if (!call || call->token_length == 0) {
		noise_dropped(i, METRIC_DROP_UNKNOWN_ID, line);
		return;
	}
	struct span token = {call->text + call->id_length, call->token_length};
	if (call->peer)
		tell(i, call->peer, KEEPER_MESSAGE, call->request, pieces,
		    send_splice(line, e->progress_of, (struct span){0}, token, pieces));
}

/* --- messages without a link to a request
 * ----------------------------------------------------------- */

/* A request of this session's that somebody waits for; *others: there is more than one. */
static struct call *open_call(const struct instance *i, const struct link *l, bool *others)
{
	struct call *found = NULL;

	*others = false;
	for (struct call *call = i->calls; call && !*others; call = call->hh.next) {
		if (!call->peer || !call->link || (l && call->link != l))
			continue;
		*others = found != NULL;
		if (!found)
			found = call;
	}
	return found;
}

/* Give it to the session: on the stream of its one request, so that it comes before the answer; on
 * its own stream; on any of its requests; or later. */
static void give(struct link *l, const struct envelope *e, struct span line)
{
	struct instance *i = l->instance;
	bool others;
	struct call *call = open_call(i, l, &others);
	struct outlet *o = TAILQ_FIRST(&l->outlets);

	if (call && (!others || !o))
		tell(i, call->peer, KEEPER_MESSAGE, call->request, &line, 1);
	else if (o)
		tell(i, o->peer, KEEPER_MESSAGE, o->request, &line, 1);
	else if (!link_hold(l, line) && e->kind == ENVELOPE_REQUEST)
		deliver_refuse(i, e->id, -32603, "the client has too much to be asked");
	else if (e->kind != ENVELOPE_REQUEST && !TAILQ_FIRST(&l->held))
		noise_dropped(i, METRIC_DROP_NO_SESSION, line);
}

static bool is_broadcast(struct span method)
{
	return method.n > list_changed.n &&
	       memcmp(method.p + method.n - list_changed.n, list_changed.p, list_changed.n) == 0;
}

/* A question of a shared child's: the answer must come from whom it was given to. */
static void ask(struct link *l, const struct envelope *e, struct span line)
{
	if (e->id.n <= LINK_TEXT_MAX && text_add(&l->asks, &l->ask_count, LINK_ASKS_MAX, e->id))
		give(l, e, line);
	else
		deliver_refuse(l->instance, e->id, -32603, "the client has too much to be asked");
}

static void deliver_shared(struct instance *i, const struct envelope *e, struct span line)
{
	struct link *l, *next;
	bool others, given = false;

	if (is_broadcast(e->method) || span_equal(e->method, updated)) {
		HASH_ITER (hh, i->links, l, next) {
			if (!is_broadcast(e->method) && !text_find(&l->uris, e->uri))
				continue;
			give(l, e, line);
			given = true;
		}
		if (!given)
			noise_dropped(i, METRIC_DROP_NO_SESSION, line);
		return;
	}
	if (span_equal(e->method, cancelled)) {
		HASH_ITER (hh, i->links, l, next) {
			if (text_find(&l->asks, e->cancelled_id))
				give(l, e, line);
		}
		return;
	}
	struct call *call = open_call(i, NULL, &others);
	if (call && !others && e->kind == ENVELOPE_REQUEST)
		ask(call->link, e, line);
	else if (call && !others)
		give(call->link, e, line);
	else if (e->kind == ENVELOPE_REQUEST)
		deliver_refuse(i, e->id, -32603,
		    "Margay can't tell which session of this shared server is asked");
	else
		noise_dropped(i, METRIC_DROP_NO_SESSION, line);
}

static void deliver_unlinked(struct instance *i, const struct envelope *e, struct span line)
{
	if (i->stateless)
		stateless_deliver(i, e, line);
	else if (i->shared)
		deliver_shared(i, e, line);
	else if (i->links)
		give(i->links, e, line);
	else if (i->state == INSTANCE_STARTING && i->opener && i->calls && i->calls->peer)
		/* Before its session is made: what it says goes with the answer to initialize. */
		tell(i, i->calls->peer, KEEPER_MESSAGE, i->calls->request, &line, 1);
	else if (e->kind == ENVELOPE_REQUEST)
		deliver_refuse(i, e->id, -32603, "it has no session yet");
	else
		noise_dropped(i, METRIC_DROP_NO_SESSION, line);
}

static void drop(struct instance *i, const struct envelope_fault *fault, struct span line)
{
	noise_dropped(i, fault->code == -32700 ? METRIC_DROP_NOT_JSON : METRIC_DROP_NOT_RPC, line);
}

static int deliver_one(void *context, const struct envelope *e)
{
	struct instance *i = context;

	if (e->kind == ENVELOPE_RESULT || e->kind == ENVELOPE_ERROR)
		deliver_answer(i, e, e->text);
	else if (span_equal(e->method, progress))
		deliver_progress(i, e, e->text);
	else
		deliver_unlinked(i, e, e->text);
	return i->state == INSTANCE_STOPPING || i->state == INSTANCE_GONE ? -ECANCELED : 0;
}

void deliver_line(struct instance *i, struct span line)
{
	struct envelope *e = &i->keeper->envelope;
	struct envelope_fault fault;

	if (i->state == INSTANCE_STOPPING)
		return;
	i->last_used = clock_coarse();
	int error = envelope_scan(line, KEEPER_JSON_DEPTH, e, &fault);
	if (error == 0)
		error = deliver_one(i, e);
	else if (error == -E2BIG) /* 2025-03-26 has batches */
		error = envelope_batch(line, KEEPER_JSON_DEPTH, deliver_one, i, &fault);
	if (error == -EINVAL)
		drop(i, &fault, line);
}

/* --- a line that is scanned in turns
 * --------------------------------------------------------------- */

/* In between its child may have been stopped. */
static bool is_heard(const struct instance *i)
{
	return i->state != INSTANCE_STOPPING && i->state != INSTANCE_GONE;
}

static int deliver_next(void *owner, const struct envelope *e)
{
	struct instance *i = owner;

	i->taken = e->text.p + e->text.n;
	return is_heard(i) ? deliver_one(i, e) : -ECANCELED;
}

static void on_delivered(void *owner, int error, const struct envelope_fault *fault)
{
	struct instance *i = owner;

	if (error == -EINVAL && is_heard(i))
		drop(i, fault, lines_held(&i->output));
	scanning_free(i->scanning);
	i->scanning = NULL;
	i->taken = NULL;
	pipes_release(i);
}

static bool begin(struct instance *i, int (*each)(void *owner, const struct envelope *message),
    scanning_done *done)
{
	struct scanning_place place = {i->keeper->loop, &i->keeper->envelope, KEEPER_JSON_DEPTH};

	scanning_free(i->scanning);
	i->scanning = scanning_begin(place, lines_held(&i->output), each, done, i);
	return i->scanning != NULL;
}

static void on_scanned(void *owner, int error, const struct envelope_fault *fault)
{
	struct instance *i = owner;

	if (error == -E2BIG && begin(i, deliver_next, on_delivered))
		return;
	if (error == -E2BIG)
		deliver_line(i, lines_held(&i->output));
	else if (error == 0 && is_heard(i))
		error = deliver_one(i, &i->keeper->envelope);
	on_delivered(i, error, fault);
}

bool deliver_later(struct instance *i)
{
	i->last_used = clock_coarse();
	return begin(i, NULL, on_scanned);
}

void deliver_too_long(struct instance *i, struct span beginning)
{
	if (i->state == INSTANCE_STOPPING || i->state == INSTANCE_GONE)
		return;
	noise_dropped(i, METRIC_DROP_TOO_LONG, beginning);
	/* It was the answer of the only request there is; of several it can't be told whose. */
	if (HASH_COUNT(i->calls) == 1)
		call_fail(i->calls, METRIC_REASON_PROTOCOL,
		    "a line of its output is longer than limits.line");
}
