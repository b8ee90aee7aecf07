/* peer: see peer.h. */
#include "master/keeper/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/credentials.h"
#include "common/ipc/wire.h"
#include "master/keeper/intake.h"
#include "master/keeper/send.h"
#include "master/keeper/stateless.h"

/* --- telling
 * ---------------------------------------------------------------------------------------- */

void peer_tell(struct peer *p, uint16_t type, uint32_t request, uint64_t target,
    const struct span *pieces, unsigned count)
{
	if (p->closed)
		return;
	stream_begin(
	    &p->stream, &(struct frame){.type = type, .request = request, .target = target});
	for (unsigned i = 0; i < count; i++)
		stream_add(&p->stream, pieces[i]);
	stream_end(&p->stream);
}

void peer_fail(struct peer *p, uint32_t request, enum metric_reason reason, const char *why)
{
	char code = (char)reason;
	struct span pieces[] = {{&code, 1}, span_of(why)};

	peer_tell(p, KEEPER_FAILED, request, 0, pieces, 2);
}

static void tell_gone(struct peer *p, const struct frame *frame)
{
	if (frame->request != 0)
		peer_tell(p, KEEPER_GONE, frame->request, frame->target, NULL, 0);
}

/* --- waiting
 * ---------------------------------------------------------------------------------------- */

bool waiter_create(struct waiter_list *list, unsigned *count, struct peer *p,
    const struct frame *frame, struct span payload)
{
	struct keeper *k = p->keeper;
	bool looked_at = list == &k->intake;
	size_t *bytes = looked_at ? &k->intake_bytes : &k->waiting;
	bool room = looked_at
			? *bytes + payload.n <= KEEPER_INTAKE_MAX
			: *count < KEEPER_WAITERS_MAX && *bytes + payload.n <= KEEPER_WAITING_MAX;
	struct waiter *w = room ? malloc(sizeof(*w) + payload.n) : NULL;

	if (!w)
		return false;
	memset(w, 0, sizeof(*w));
	w->list = list;
	w->count = count;
	w->bytes = bytes;
	w->peer = p;
	w->frame = *frame;
	w->frame.length = (uint32_t)payload.n;
	memcpy(w->payload, payload.p, payload.n);
	TAILQ_INSERT_TAIL(list, w, link);
	TAILQ_INSERT_TAIL(&p->waiters, w, by_peer);
	*count += 1;
	*bytes += payload.n;
	return true;
}

void waiter_detach(struct waiter *w)
{
	TAILQ_REMOVE(w->list, w, link);
	TAILQ_REMOVE(&w->peer->waiters, w, by_peer);
	*w->count -= 1;
	*w->bytes -= w->frame.length;
}

void waiter_drop(struct waiter *w)
{
	scanning_free(w->scanning);
	free(w);
}

void waiter_free(struct waiter *w)
{
	if (w->peer->keeper->looked.waiter == w)
		w->peer->keeper->looked.waiter = NULL;
	waiter_detach(w);
	waiter_drop(w);
}

/* Take one off its lists; it is then the caller's. */
static struct waiter *waiter_take(struct waiter_list *list)
{
	struct waiter *w = TAILQ_FIRST(list);

	if (w)
		waiter_detach(w);
	return w;
}

void waiters_run(struct waiter_list *list)
{
	struct waiter_list run;
	struct waiter *w;
	unsigned count = 0;

	/* Who has to wait again does so in the list proper, behind those who run now. */
	TAILQ_INIT(&run);
	while ((w = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, w, link);
		*w->count -= 1;
		w->list = &run;
		w->count = &count;
		count++;
		TAILQ_INSERT_TAIL(&run, w, link);
	}
	while ((w = waiter_take(&run))) {
		intake_take(w->peer, &w->frame, (struct span){w->payload, w->frame.length}, 0);
		free(w);
	}
}

void waiters_fail(struct waiter_list *list, enum metric_reason reason, const char *why)
{
	struct waiter *w;

	while ((w = waiter_take(list))) {
		peer_fail(w->peer, w->frame.request, reason, why);
		free(w);
	}
}

/* --- requests
 * --------------------------------------------------------------------------------------- */

static struct instance *instance_of(struct keeper *k, uint64_t id)
{
	struct instance *i;

	HASH_FIND(hh, k->by_id, &id, sizeof(id), i);
	return i && (i->state != INSTANCE_STOPPING || i->recycled) ? i : NULL;
}

/* The child is this session's. NULL when memory is short. */
static struct link *bind_session(struct instance *i, const struct session_id *session)
{
	struct link *l = link_get(i, session);

	if (!l)
		return NULL;
	i->opener = NULL;
	i->bound = true;
	if (!i->shared) {
		i->page->bound = 1;
		i->page->session = *session;
	}
	return l;
}

/* The child and the session that a frame is about; what follows them is left in *rest. NULL: they
 * are not there. */
static struct link *link_of(
    struct peer *p, const struct frame *frame, struct span payload, struct span *rest)
{
	struct instance *i = instance_of(p->keeper, frame->target);
	struct session_id session;

	if (!i || payload.n < sizeof(session.bytes))
		return NULL;
	memcpy(session.bytes, payload.p, sizeof(session.bytes));
	*rest = (struct span){payload.p + sizeof(session.bytes), payload.n - sizeof(session.bytes)};
	/* A session's next request may come by another worker, before BIND by the first. A shared
	 * child serves whoever comes; another's own child nobody else. */
	return i->shared || !i->bound ? bind_session(i, &session) : link_find(i, &session);
}

static void on_hello(struct peer *p, const struct frame *frame, struct span payload)
{
	struct wire_reader r = {.p = payload.p, .length = payload.n};
	uint16_t protocol = wire_get_u16(&r), role = wire_get_u16(&r);

	(void)frame;
	wire_get_u32(&r); /* generation */
	wire_get_u32(&r); /* number */
	if (!wire_complete(&r) || protocol != KEEPER_PROTOCOL || role != ROLE_WORKER)
		peer_close(p, "it speaks another protocol");
	else
		p->greeted = true;
}

/* What concerns no child that is there already: a new session, or a message without one. */
static void on_upstream(struct peer *p, const struct frame *frame, struct span payload)
{
	struct wire_reader r = {.p = payload.p, .length = payload.n};
	struct span name = wire_get_string(&r);
	struct fleet *f = fleet_find(p->keeper, name);
	struct span message = {payload.p + r.offset, payload.n - r.offset};

	if (r.error || !f)
		peer_fail(p, frame->request, METRIC_REASON_CONNECT, "it is no longer configured");
	else if (frame->type == KEEPER_OPEN)
		send_open(f, p, frame, payload, message);
	else
		stateless_ask(f, p, frame, payload, message);
}

static void on_bind(struct peer *p, const struct frame *frame, struct span payload)
{
	struct instance *i = instance_of(p->keeper, frame->target);
	struct span rest;

	if (i && !link_of(p, frame, payload, &rest))
		instance_stop(i, "it could not be bound to its session");
}

static void on_send(struct peer *p, const struct frame *frame, struct span payload)
{
	struct span message;
	struct link *l = link_of(p, frame, payload, &message);

	if (l)
		send_message(l, p, frame, payload, message);
	else
		tell_gone(p, frame);
}

static void on_listen(struct peer *p, const struct frame *frame, struct span payload)
{
	struct span rest;
	struct link *l = link_of(p, frame, payload, &rest);
	uint32_t none = 0;
	struct span count = {(const char *)&none, sizeof(none)};

	if (!l || !outlet_create(l, p, frame->request)) {
		tell_gone(p, frame);
		return;
	}
	l->instance->last_used = clock_coarse();
	peer_tell(p, KEEPER_ACCEPTED, frame->request, frame->target, &count, 1);
	link_release(l);
}

static void on_forget(struct peer *p, const struct frame *frame, struct span payload)
{
	struct call *call, *next_call;
	struct outlet *o, *next_outlet;
	struct waiter *w, *next_waiter;

	(void)payload;
	TAILQ_FOREACH_SAFE (call, &p->calls, by_peer, next_call) {
		bool last = call->kind == CALL_OPEN; /* its child goes with it */
		if (call->request != frame->request)
			continue;
		send_forget(call, frame->flags & KEEPER_CANCEL);
		if (last)
			return;
	}
	TAILQ_FOREACH_SAFE (o, &p->outlets, by_peer, next_outlet) {
		if (o->request == frame->request)
			outlet_free(o);
	}
	TAILQ_FOREACH_SAFE (w, &p->waiters, by_peer, next_waiter) {
		if (w->frame.request == frame->request && !intake_forget(w, frame))
			waiter_free(w);
	}
}

static void on_close(struct peer *p, const struct frame *frame, struct span payload)
{
	struct span rest;
	struct instance *i = instance_of(p->keeper, frame->target);

	if (!i)
		return;
	if (!i->shared) {
		/* It may have no session yet: its initialize was refused, or nobody waits for it.
		 */
		instance_stop(i, "its session ended");
		return;
	}
	struct link *l = link_of(p, frame, payload, &rest);
	if (!l)
		return;
	bool kept = l->uri_count > 0;
	link_free(l);
	if (kept)
		links_keep(i);
	fleet_changed(i->fleet);
}

static void on_pause(struct peer *p, const struct frame *frame, struct span payload)
{
	struct instance *i = instance_of(p->keeper, frame->target);
	uint64_t bit = (uint64_t)1 << p->index;

	(void)payload;
	if (!i)
		return;
	if (frame->type == KEEPER_PAUSE)
		i->paused_by |= bit;
	else
		i->paused_by &= ~bit;
	instance_update(i);
}

static const struct {
	void (*run)(struct peer *p, const struct frame *frame, struct span payload);
} requests[] = {
    [KEEPER_HELLO] = {on_hello},
    [KEEPER_OPEN] = {on_upstream},
    [KEEPER_BIND] = {on_bind},
    [KEEPER_SEND] = {on_send},
    [KEEPER_LISTEN] = {on_listen},
    [KEEPER_FORGET] = {on_forget},
    [KEEPER_CLOSE] = {on_close},
    [KEEPER_PAUSE] = {on_pause},
    [KEEPER_RESUME] = {on_pause},
    [KEEPER_ASK] = {on_upstream},
};

void peer_dispatch(struct peer *p, const struct frame *frame, struct span payload)
{
	bool known =
	    frame->type < sizeof(requests) / sizeof(requests[0]) && requests[frame->type].run;

	if (!known || (frame->type == KEEPER_HELLO) == p->greeted)
		peer_close(p, "it broke the protocol");
	else
		requests[frame->type].run(p, frame, payload);
}

/* --- life
 * ------------------------------------------------------------------------------------------- */

static bool on_frame(struct stream *s, const struct frame *frame, struct span payload)
{
	struct peer *p = container_of(s, struct peer, stream);

	intake_take(p, frame, payload, 0);
	return !p->closed;
}

static void on_ended(struct stream *s, const char *why)
{
	peer_close(container_of(s, struct peer, stream), why);
}

/* Let children that waited for this worker go on. */
static void unstall(struct peer *p)
{
	struct instance *i, *next;

	p->congested_since = 0;
	HASH_ITER (hh, p->keeper->by_id, i, next) {
		if (i->stalled_by != p)
			continue;
		i->stalled_by = NULL;
		instance_update(i);
	}
}

struct peer *peer_full(const struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_PEERS; i++) {
		if (k->peers[i] && stream_waiting(&k->peers[i]->stream) >= PEER_FULL)
			return k->peers[i];
	}
	return NULL;
}

static void on_drained(struct stream *s)
{
	struct peer *p = container_of(s, struct peer, stream);

	if (p->congested_since > 0)
		unstall(p);
}

void peer_close(struct peer *p, const char *why)
{
	struct keeper *k = p->keeper;
	struct instance *i, *next;

	if (p->closed)
		return;
	p->closed = true;
	if (!k->stopping)
		LOG(k->log, LOG_LEVEL_INFO, "worker left the keeper", LOG_STR("reason", why));
	stream_close(&p->stream);
	k->peers[p->index] = NULL;
	LIST_INSERT_HEAD(&k->dead_peers, p, dead);
	while (!TAILQ_EMPTY(&p->calls))
		send_forget(TAILQ_FIRST(&p->calls), false);
	while (!TAILQ_EMPTY(&p->outlets))
		outlet_free(TAILQ_FIRST(&p->outlets));
	while (!TAILQ_EMPTY(&p->waiters))
		waiter_free(TAILQ_FIRST(&p->waiters));
	unstall(p);
	HASH_ITER (hh, k->by_id, i, next) {
		i->paused_by &= ~((uint64_t)1 << p->index);
		instance_update(i);
		/* Nobody will ever come for what it opened and did not bind. */
		if (i->opener == p) {
			i->opener = NULL;
			if (!i->bound && !i->shared)
				instance_stop(i, "the worker that opened it is gone");
		}
	}
}

void peers_reap(struct keeper *k)
{
	struct peer *p;

	while ((p = LIST_FIRST(&k->dead_peers))) {
		LIST_REMOVE(p, dead);
		free(p);
	}
}

struct peer *peer_create(struct keeper *k, unsigned index, int fd)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->keeper = k;
	p->index = index;
	TAILQ_INIT(&p->calls);
	TAILQ_INIT(&p->outlets);
	TAILQ_INIT(&p->waiters);
	p->stream.frame = on_frame;
	p->stream.ended = on_ended;
	p->stream.drained = on_drained;
	stream_open(&p->stream, k->loop, fd);
	k->peers[index] = p;
	return p;
}

void peer_open(struct keeper *k, int fd)
{
	unsigned index = 0;

	while (index < KEEPER_PEERS && k->peers[index])
		index++;
	bool trusted = credentials_trusted(fd);
	if (trusted && index < KEEPER_PEERS && peer_create(k, index, fd))
		return;
	LOG(k->log, LOG_LEVEL_WARN, "keeper refused a connection",
	    LOG_STR("reason", trusted ? "too many" : "foreign user"));
	close(fd);
}
