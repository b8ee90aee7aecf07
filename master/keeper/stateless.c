/* stateless: see stateless.h. */
#include "master/keeper/stateless.h"

#include <errno.h>
#include <stdio.h>

#include "common/raw.h"
#include "common/revision.h"
#include "master/keeper/intake.h"
#include "master/keeper/send.h"

/* Seconds after which one that has not answered server/discover is asked whether it is there. */
static const double probe_patience = 3;

static const char discover[] =
    "\"method\":\"server/discover\",\"params\":{\"_meta\":{"
    "\"io.modelcontextprotocol/protocolVersion\":\"" MCP_STATELESS "\","
    "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"margay\",\"version\":\"" MARGAY_VERSION
    "\"},\"io.modelcontextprotocol/clientCapabilities\":{}}}}";
static const char ping[] = "\"method\":\"ping\"}";

/* --- which era
 * -------------------------------------------------------------------------------------- */

static bool ask_itself(struct instance *i, enum call_kind kind, const char *rest)
{
	char head[64];
	struct call *call = call_create(i, NULL, NULL, 0, kind, (struct span){0}, (struct span){0});

	if (!call)
		return false;
	int n = snprintf(head, sizeof(head), "{\"jsonrpc\":\"2.0\",\"id\":%llu,",
	    (unsigned long long)call->number);
	const struct span pieces[] = {{head, (size_t)n}, span_of(rest)};
	return instance_write(i, pieces, 2) == 0;
}

static void wait_until(struct instance *i, double seconds)
{
	ev_timer_stop(i->keeper->loop, &i->timer);
	ev_timer_set(&i->timer, seconds, 0);
	ev_timer_start(i->keeper->loop, &i->timer);
}

void stateless_probe(struct instance *i)
{
	double patience = i->fleet->config->handshake_timeout;

	i->stateless = i->shared = true;
	i->pinged = false;
	i->state = INSTANCE_STARTING;
	wait_until(i, patience < probe_patience ? patience : probe_patience);
	if (!ask_itself(i, CALL_DISCOVER, discover))
		instance_fail_start(i, "it does not take server/discover");
}

struct instance *stateless_find(const struct fleet *f)
{
	struct instance *i;

	TAILQ_FOREACH (i, &f->instances, link) {
		if (i->stateless && (i->state == INSTANCE_STARTING || instance_serves(i)))
			return i;
	}
	return NULL;
}

/* What was asked to find out its era needs no answer any more. */
static void forget_questions(struct instance *i)
{
	struct call *call, *next;

	HASH_ITER (hh, i->calls, call, next) {
		if (call->kind == CALL_DISCOVER || call->kind == CALL_PING)
			call_free(call);
	}
}

/* Give a process of the era before to whom it is for; `other` serves all sessions, or NULL. */
static void hand_over(struct instance *i, const struct instance *other)
{
	struct fleet *f = i->fleet;

	ev_timer_stop(i->keeper->loop, &i->timer);
	if (f->config->sharing != CONFIG_SHARED) {
		i->shared = false;
		i->state = INSTANCE_SPARE;
		f->spare++;
	} else if (other) {
		instance_stop(i, "there is another for its sessions");
	} else {
		wait_until(i, f->config->handshake_timeout);
		instance_handshake(i);
	}
}

/* Remember, and tell all who wait for it. */
static void is_legacy(struct instance *i)
{
	struct fleet *f = i->fleet;

	f->legacy = true;
	i->stateless = false;
	LOG(i->keeper->log, LOG_LEVEL_INFO, "a server of the era before " MCP_STATELESS,
	    LOG_STR("upstream", f->name));
	waiters_run(&i->waiters);
}

void stateless_probed(struct instance *i, enum call_kind kind, const struct envelope *e)
{
	static const struct span codes[] = {{"-32020", 6}, {"-32021", 6}, {"-32022", 6}};
	struct span member;
	bool stateless = kind == CALL_DISCOVER && e->kind == ENVELOPE_RESULT &&
			 raw_member(e->result, "supportedVersions", &member);

	if (!i->stateless || i->state != INSTANCE_STARTING)
		return;
	forget_questions(i);
	if (kind == CALL_DISCOVER && e->kind == ENVELOPE_ERROR &&
	    raw_member(e->error, "code", &member)) {
		for (size_t n = 0; n < sizeof(codes) / sizeof(codes[0]); n++)
			stateless |= span_equal(member, codes[n]);
	}
	if (stateless) {
		i->page->stateless = 1;
		instance_ready(i);
		waiters_run(&i->waiters);
	} else if (i->refuses_initialize) {
		instance_fail_start(i, "it refused initialize and server/discover");
	} else {
		const struct instance *other = fleet_common(i->fleet);
		is_legacy(i);
		hand_over(i, other);
	}
}

void stateless_late(struct instance *i)
{
	double rest = i->fleet->config->handshake_timeout - probe_patience;

	/* A program that takes its time to start has said nothing of its era yet; one that answers
	 * this and not the other has. */
	if (!i->pinged && rest > 0) {
		i->pinged = true;
		wait_until(i, rest);
		if (ask_itself(i, CALL_PING, ping))
			return;
	}
	is_legacy(i);
	instance_stop(i, "it answered neither server/discover nor ping");
}

bool stateless_ended(struct instance *i)
{
	if (!i->stateless || i->refuses_initialize)
		return false;
	/* Some end at the first message that is not initialize. */
	is_legacy(i);
	return true;
}

/* --- what it is asked
 * ------------------------------------------------------------------------------- */

static void ask(struct instance *i, struct peer *p, const struct frame *frame, struct span message)
{
	const struct envelope *e = &i->keeper->envelope;
	struct envelope_fault fault;
	struct call *call = NULL;
	struct span level;
	uint32_t none = 0;
	const struct span count = {(const char *)&none, sizeof(none)};
	int error = 0;

	if (intake_scan(i->keeper, message, &fault)) {
		peer_fail(p, frame->request, METRIC_REASON_PROTOCOL, fault.reason);
		return;
	}
	if (e->kind != ENVELOPE_REQUEST) {
		/* Ids are ours here, so nobody else may say which request is cancelled. */
		if (!span_equal(e->method, SPAN("notifications/cancelled")))
			error = instance_write(i, &e->text, 1);
		if (!error)
			peer_tell(p, KEEPER_ACCEPTED, frame->request, i->id, &count, 1);
	} else if (e->id.n + e->progress_token.n > LINK_TEXT_MAX) {
		error = -ENOBUFS;
	} else if (!(call = call_create(
			 i, p, NULL, frame->request, CALL_ASK, e->id, e->progress_token))) {
		error = -ENOMEM;
	}
	if (call) {
		call->listens = span_equal(e->method, SPAN("subscriptions/listen"));
		/* None ever come on a listen (2026-07-28, subscriptions). */
		call->wants_log = !call->listens &&
				  raw_member(e->meta, "io.modelcontextprotocol/logLevel", &level);
		error = send_call(call, e);
	}
	if (!error)
		return;
	if (call)
		call_free(call);
	send_failed(i, p, frame->request, error);
}

static void start(struct fleet *f, struct peer *p, const struct frame *frame, struct span payload)
{
	struct instance *i = send_take_child(f, p, frame, payload);

	if (!i)
		return;
	send_wait_for(i, p, frame, payload);
	stateless_probe(i);
}

void stateless_ask(struct fleet *f, struct peer *p, const struct frame *frame, struct span payload,
    struct span message)
{
	struct instance *i = stateless_find(f);

	if (i && i->state == INSTANCE_READY)
		ask(i, p, frame, message);
	else if (i)
		send_wait_for(i, p, frame, payload);
	else if (f->legacy)
		peer_tell(p, KEEPER_LEGACY, frame->request, 0, NULL, 0);
	else
		start(f, p, frame, payload);
}

/* --- what it says
 * ----------------------------------------------------------------------------------- */

/* Messages about no request of their own go to the one that wants them, if there is only one
 * (mcp-wire, 3.2). */
static struct call *call_for_log(const struct instance *i)
{
	struct call *found = NULL;

	for (struct call *call = i->calls; call; call = call->hh.next) {
		if (!call->wants_log || !call->peer)
			continue;
		if (found)
			return NULL;
		found = call;
	}
	return found;
}

void stateless_deliver(struct instance *i, const struct envelope *e, struct span line)
{
	struct span subscription = {0};
	struct call *call = NULL;

	if (e->kind == ENVELOPE_REQUEST) {
		deliver_refuse(i, e->id, -32601, "no server of this revision asks this way");
		return;
	}
	if (e->meta.p &&
	    raw_member(e->meta, "io.modelcontextprotocol/subscriptionId", &subscription))
		call = deliver_call_of(i, subscription);
	if (call && call->peer) {
		deliver_to(call, KEEPER_MESSAGE, line, subscription, (struct span){0});
	} else if (span_equal(e->method, SPAN("notifications/message")) &&
		   (call = call_for_log(i))) {
		deliver_to(call, KEEPER_MESSAGE, line, (struct span){0}, (struct span){0});
	} else if (span_equal(e->method, SPAN("notifications/cancelled")) &&
		   (call = deliver_call_of(i, e->cancelled_id)) && call->listens) {
		if (call->peer)
			peer_tell(call->peer, KEEPER_ENDED, call->request, i->id, NULL, 0);
		call_free(call);
	} else {
		noise_dropped(i, METRIC_DROP_NO_SESSION, line);
	}
}

bool stateless_busy(const struct instance *i)
{
	for (const struct call *call = i->calls; call; call = call->hh.next) {
		if (!call->listens)
			return true;
	}
	return false;
}
