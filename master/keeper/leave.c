/*
 * leave: a keeper makes room for another. See estate.h.
 *
 * It happens between two turns of the loop, at once, whatever is in flight: nothing is waited for
 * but that the master takes what it is told. The process ends as if it were killed, for whatever is
 * to live on is no longer its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "master/keeper/estate.h"

static const double again = 0.02; /* seconds */

static int32_t index_of(const struct peer *p)
{
	return p ? (int32_t)p->index : ESTATE_NOBODY;
}

static void leave_fleets(const struct keeper *k, struct handover *h)
{
	const struct fleet *f;

	TAILQ_FOREACH (f, &k->fleets, link) {
		struct estate_fleet head = {.starts = f->starts,
		    .start_failures = f->start_failures,
		    .deaths = f->deaths,
		    .lost = f->lost,
		    .retry_at = f->retry_at,
		    .failures = f->failures,
		    .backoff = f->backoff.failures,
		    .legacy = f->legacy};
		const struct span texts[] = {
		    span_of(f->name), span_of(f->digest), span_of(f->last_error)};
		if (!f->retired)
			handover_put(h, ESTATE_FLEET, &head, sizeof(head), texts, 3);
	}
}

static void leave_peers(const struct keeper *k, struct handover *h)
{
	for (unsigned n = 0; n < KEEPER_PEERS; n++) {
		const struct peer *p = k->peers[n];
		if (!p)
			continue;
		struct estate_peer head = {.index = (int32_t)n,
		    .fd = handover_fd(h, p->stream.io.fd),
		    .congested_since = p->congested_since,
		    .protocol = KEEPER_PROTOCOL,
		    .greeted = p->greeted};
		const struct span texts[] = {
		    buffer_span(&p->stream.in), buffer_span(&p->stream.out)};
		handover_put(h, ESTATE_PEER, &head, sizeof(head), texts, 2);
	}
}

static void leave_instance(struct instance *i, struct handover *h)
{
	struct ev_loop *loop = i->keeper->loop;
	struct estate_instance head = {.id = i->id,
	    .paused_by = i->paused_by,
	    .timer = ev_is_active(&i->timer) ? ev_timer_remaining(loop, &i->timer) : ESTATE_NOBODY,
	    .ready_at = i->ready_at,
	    .last_used = i->last_used,
	    .report = handover_fd(h, i->report),
	    .opener = index_of(i->opener),
	    .stalled_by = index_of(i->stalled_by),
	    .step = i->step,
	    .restarts = i->restarts,
	    .state = (uint8_t)i->state,
	    .shared = i->shared,
	    .stateless = i->stateless,
	    .pinged = i->pinged,
	    .refuses_initialize = i->refuses_initialize,
	    .bound = i->bound,
	    .input_broken = i->input_broken,
	    .recycled = i->recycled,
	    .output_skipping = i->output.skipping,
	    .errors_skipping = i->errors.skipping};
	if (i->taken)
		scanning_cut(lines_held(&i->output).p, i->taken);
	const struct span texts[] = {buffer_span(&i->input), buffer_span(&i->output.part),
	    buffer_span(&i->errors.part),
	    /* Later it is in the page's memory. */
	    i->page->ready ? (struct span){"", 0} : buffer_span(&i->handshake)};

	handover_put(h, ESTATE_INSTANCE, &head, sizeof(head), texts, 4);
}

static void leave_texts(const struct link *l, const struct text_list *list,
    enum estate_text_kind kind, struct handover *h)
{
	const struct text *t;

	TAILQ_FOREACH (t, list, link) {
		struct estate_text head = {.instance = l->instance->id,
		    .since = t->since,
		    .session = l->session,
		    .kind = (uint8_t)kind};
		handover_put(h, ESTATE_TEXT, &head, sizeof(head), &(struct span){t->p, t->n}, 1);
	}
}

static void leave_link(const struct link *l, struct handover *h)
{
	struct estate_link head = {.instance = l->instance->id, .session = l->session};
	const struct outlet *o;

	handover_put(h, ESTATE_LINK, &head, sizeof(head), NULL, 0);
	leave_texts(l, &l->uris, ESTATE_URI, h);
	leave_texts(l, &l->asks, ESTATE_ASKED, h);
	leave_texts(l, &l->held, ESTATE_HELD, h);
	TAILQ_FOREACH (o, &l->outlets, link) {
		struct estate_outlet row = {.instance = l->instance->id,
		    .session = l->session,
		    .peer = index_of(o->peer),
		    .request = o->request};
		handover_put(h, ESTATE_OUTLET, &row, sizeof(row), NULL, 0);
	}
}

static void leave_call(const struct call *call, struct handover *h)
{
	struct estate_call head = {.instance = call->instance->id,
	    .number = call->number,
	    .peer = index_of(call->peer),
	    .request = call->request,
	    .linked = call->link != NULL,
	    .kind = (uint8_t)call->kind,
	    .listens = call->listens,
	    .wants_log = call->wants_log};
	const struct span texts[] = {
	    {call->text, call->id_length}, {call->text + call->id_length, call->token_length}};

	if (call->link)
		head.session = call->link->session;
	handover_put(h, ESTATE_CALL, &head, sizeof(head), texts, 2);
}

/* They ask again, in the order in which their worker asked. */
static void leave_waiters(const struct peer *p, struct handover *h)
{
	const struct waiter *w;

	TAILQ_FOREACH (w, &p->waiters, by_peer) {
		struct estate_waiter head = {
		    .frame = w->frame, .peer = index_of(p), .answers = w->answers};
		struct span payload = {w->payload, w->frame.length};
		if (w->taken)
			scanning_cut(intake_message(&w->frame, payload).p, w->taken);
		handover_put(h, ESTATE_WAITER, &head, sizeof(head), &payload, 1);
		head = (struct estate_waiter){.frame = w->forget, .peer = index_of(p)};
		if (w->forget.type)
			handover_put(
			    h, ESTATE_WAITER, &head, sizeof(head), &(struct span){"", 0}, 1);
	}
}

static void leave_all(struct keeper *k, struct handover *h)
{
	struct estate_keeper head = {.last_id = k->last_id};
	struct instance *i;
	const struct link *l;
	const struct call *call;

	handover_put(h, ESTATE_KEEPER, &head, sizeof(head), NULL, 0);
	leave_fleets(k, h);
	leave_peers(k, h);
	for (i = k->by_id; i; i = i->hh.next) {
		leave_instance(i, h);
		for (l = i->links; l; l = l->hh.next)
			leave_link(l, h);
		for (call = i->calls; call; call = call->hh.next)
			leave_call(call, h);
	}
	for (unsigned n = 0; n < KEEPER_PEERS; n++) {
		if (k->peers[n])
			leave_waiters(k->peers[n], h);
	}
	remnants_leave(k, h);
}

/* The master has heard all that it was told of children. */
static bool is_settled(const struct keeper *k)
{
	for (const struct instance *i = k->by_id; i; i = i->hh.next) {
		if (!i->kept)
			return false;
	}
	return k->forget_count == 0;
}

void keeper_leave(struct keeper *k)
{
	struct handover h = {0};
	int error = -EAGAIN;

	if (is_settled(k)) {
		leave_all(k, &h);
		error = handover_leave(&h, k->boot->channel);
		handover_release(&h);
	}
	if (!error) {
		log_flush(k->log);
		_exit(EXIT_SUCCESS);
	}
	if (error != -EAGAIN)
		LOG(k->log, LOG_LEVEL_WARN, "can't make room", LOG_ERRNO(-error));
	ev_timer_stop(k->loop, &k->leave);
	ev_timer_set(&k->leave, error == -EAGAIN ? again : 1, 0);
	ev_timer_start(k->loop, &k->leave);
}
