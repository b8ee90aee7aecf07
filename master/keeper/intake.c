/* intake: see intake.h. */
#include "master/keeper/intake.h"

#include "common/ipc/wire.h"

struct span intake_message(const struct frame *frame, struct span payload)
{
	struct wire_reader r = {.p = payload.p, .length = payload.n};
	struct session_id session;

	if (frame->type == KEEPER_SEND)
		wire_get_bytes(&r, session.bytes, sizeof(session.bytes));
	else if (frame->type == KEEPER_OPEN || frame->type == KEEPER_ASK)
		wire_get_string(&r);
	else
		return (struct span){"", 0};
	return r.error ? (struct span){"", 0}
		       : (struct span){payload.p + r.offset, payload.n - r.offset};
}

static struct span payload_of(const struct waiter *w)
{
	return (struct span){w->payload, w->frame.length};
}

static bool is_long(const struct frame *frame, struct span payload)
{
	return payload.n > SCANNING_SHORT && intake_message(frame, payload).n > SCANNING_SHORT;
}

/* Whether a frame must not overtake this one. */
static bool is_before(
    const struct waiter *w, const struct peer *p, const struct frame *frame, struct span payload)
{
	return w->peer == p && w->frame.target == frame->target && w->frame.type == KEEPER_SEND &&
	       (frame->type == KEEPER_SEND || frame->type == KEEPER_CLOSE) &&
	       payload.n >= SESSION_ID_BYTES &&
	       memcmp(w->payload, payload.p, SESSION_ID_BYTES) == 0;
}

static bool has_before(struct peer *p, const struct frame *frame, struct span payload)
{
	const struct waiter *w;

	TAILQ_FOREACH (w, &p->keeper->intake, link) {
		if (is_before(w, p, frame, payload))
			return true;
	}
	return false;
}

static struct scanning_place place_of(struct keeper *k)
{
	return (struct scanning_place){k->loop, &k->envelope, KEEPER_JSON_DEPTH};
}

static void take(struct waiter *w)
{
	peer_dispatch(w->peer, &w->frame, payload_of(w));
}

/* Of one that is on no list any more. */
static void forget(const struct waiter *w)
{
	if (w->forget.type)
		peer_dispatch(w->peer, &w->forget, (struct span){"", 0});
}

static void on_scanned(void *owner, int error, const struct envelope_fault *fault)
{
	struct waiter *w = owner;
	struct keeper *k = w->peer->keeper;

	k->looked.waiter = w;
	k->looked.error = error;
	k->looked.fault = *fault;
	take(w);
	/* Unless its peer was closed for what it says, and it is gone with that. */
	bool there = k->looked.waiter == w;
	k->looked.waiter = NULL;
	if (there && !w->is_batch)
		intake_finish(w);
}

/* False when memory is short. */
static bool begin(struct waiter *w)
{
	struct span message = intake_message(&w->frame, payload_of(w));

	w->scanning = scanning_begin(place_of(w->peer->keeper), message, NULL, on_scanned, w);
	return w->scanning != NULL;
}

void intake_add(struct peer *p, const struct frame *frame, struct span payload, uint32_t owed)
{
	struct keeper *k = p->keeper;
	bool behind = !TAILQ_EMPTY(&k->intake) && has_before(p, frame, payload);

	/* Who has not greeted is thrown out at once: later would be while it is taken. */
	if (!p->greeted || (!behind && owed == 0 && !is_long(frame, payload))) {
		peer_dispatch(p, frame, payload);
		return;
	}
	if (!waiter_create(&k->intake, &k->intake_count, p, frame, payload)) {
		peer_fail(p, frame->request, METRIC_REASON_LIMIT, "too much waits to be looked at");
		return;
	}
	struct waiter *w = TAILQ_LAST(&k->intake, waiter_list);
	w->answers = owed;
	if (behind || begin(w))
		return;
	waiter_detach(w);
	take(w);
	waiter_drop(w);
}

bool intake_forget(struct waiter *w, const struct frame *frame)
{
	if (w->list != &w->peer->keeper->intake)
		return false;
	w->forget = *frame;
	return true;
}

/* The first that waits behind this one, which is on the list no more. */
static struct waiter *first_behind(const struct waiter *w)
{
	struct waiter *behind;

	TAILQ_FOREACH (behind, w->list, link) {
		if (is_before(w, behind->peer, &behind->frame, payload_of(behind)))
			break;
	}
	return behind;
}

void intake_finish(struct waiter *w)
{
	struct waiter *behind;

	waiter_detach(w);
	forget(w);
	/* Any of them may close the peer, and take the others along. */
	while ((behind = first_behind(w))) {
		if (is_long(&behind->frame, payload_of(behind)) && begin(behind))
			break;
		waiter_detach(behind);
		take(behind);
		forget(behind);
		waiter_drop(behind);
	}
	waiter_drop(w);
}

int intake_scan(struct keeper *k, struct span message, struct envelope_fault *fault)
{
	const struct waiter *w = intake_looked_at(k, message);

	if (!w)
		return envelope_scan(message, KEEPER_JSON_DEPTH, &k->envelope, fault);
	scanning_found(w->scanning);
	*fault = k->looked.fault;
	return k->looked.error;
}

bool intake_batch(struct keeper *k, struct span message,
    int (*each)(void *waiter, const struct envelope *message), scanning_done *done)
{
	struct waiter *w = intake_looked_at(k, message);
	struct scanning *s = w ? scanning_begin(place_of(k), message, each, done, w) : NULL;

	if (!s)
		return false;
	scanning_free(w->scanning);
	w->scanning = s;
	w->is_batch = true;
	return true;
}
