/*
 * inherit: a keeper goes on where the one before stopped. See estate.h.
 *
 * What can't be taken over for lack of memory fails towards whoever waits for it, as at a death.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "master/keeper/estate.h"

static struct peer *peer_of(const struct keeper *k, int32_t index)
{
	return index >= 0 && index < KEEPER_PEERS ? k->peers[index] : NULL;
}

static struct instance *instance_of(const struct keeper *k, uint64_t id)
{
	struct instance *i;

	HASH_FIND(hh, k->by_id, &id, sizeof(id), i);
	return i;
}

static struct link *link_of(
    const struct keeper *k, uint64_t instance, const struct session_id *session)
{
	struct instance *i = instance_of(k, instance);

	return i ? link_get(i, session) : NULL;
}

static void take_keeper(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_keeper head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	if (head.last_id > k->last_id)
		k->last_id = head.last_id;
}

static void take_fleet(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_fleet head;
	struct fleet *f = fleet_find(k, record->texts[0]);

	(void)left;
	handover_head(record, &head, sizeof(head));
	if (!f || !span_equal(span_of(f->digest), record->texts[1]))
		return;
	f->starts = head.starts;
	f->start_failures = head.start_failures;
	f->deaths = head.deaths;
	f->lost = head.lost;
	f->retry_at = head.retry_at;
	f->failures = head.failures;
	f->backoff.failures = head.backoff;
	f->legacy = head.legacy;
	snprintf(f->last_error, sizeof(f->last_error), "%.*s", (int)record->texts[2].n,
	    record->texts[2].p);
	fleet_changed(f);
}

static void take_peer(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_peer head;

	handover_head(record, &head, sizeof(head));
	int fd = handover_take(left, head.fd);
	if (fd < 0 || head.index < 0 || head.index >= KEEPER_PEERS)
		return;
	/* Without it the worker comes again, as after a death. */
	struct peer *p = head.protocol == KEEPER_PROTOCOL && !k->peers[head.index]
			     ? peer_create(k, (unsigned)head.index, fd)
			     : NULL;
	if (!p) {
		close(fd);
		return;
	}
	p->greeted = head.greeted;
	p->congested_since = head.congested_since;
	if (stream_restore(&p->stream, record->texts[0], record->texts[1]))
		peer_close(p, "out of memory");
}

static void take_pipes(struct instance *i, const struct estate_instance *head,
    const struct handover_record *record, int report)
{
	int error = buffer_append(&i->input, record->texts[0].p, record->texts[0].n,
	    STREAM_MESSAGE_MAX + record->texts[0].n);

	i->output.skipping = head->output_skipping;
	i->errors.skipping = head->errors_skipping;
	error |= pipes_restore(i, record->texts[1]);
	error |= buffer_append(
	    &i->errors.part, record->texts[2].p, record->texts[2].n, STREAM_MESSAGE_MAX);
	if (record->texts[3].n > 0)
		error |= buffer_append(
		    &i->handshake, record->texts[3].p, record->texts[3].n, STREAM_MESSAGE_MAX);
	if (error)
		LOG(i->keeper->log, LOG_LEVEL_ERROR, "out of memory: a child lost a message",
		    LOG_STR("upstream", i->fleet->name));
	i->input_broken = head->input_broken;
	if (buffer_length(&i->input) > 0 && !i->is_dirty) {
		i->is_dirty = true;
		TAILQ_INSERT_TAIL(&i->keeper->dirty, i, dirty);
	}
	if (report >= 0)
		pipes_await_exec(i, report);
}

static void take_instance(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_instance head;

	handover_head(record, &head, sizeof(head));
	struct instance *i = instance_of(k, head.id);
	int report = handover_take(left, head.report);
	if (!i || i->state == INSTANCE_STOPPING) {
		if (report >= 0)
			close(report);
		return;
	}
	i->state = head.state;
	i->shared = head.shared;
	i->stateless = head.stateless;
	i->pinged = head.pinged;
	i->refuses_initialize = head.refuses_initialize;
	i->bound = head.bound;
	i->recycled = head.recycled;
	i->step = head.step;
	i->restarts = head.restarts;
	i->ready_at = head.ready_at;
	i->last_used = head.last_used;
	i->paused_by = head.paused_by;
	i->opener = peer_of(k, head.opener);
	i->stalled_by = peer_of(k, head.stalled_by);
	i->fleet->spare += i->state == INSTANCE_SPARE;
	take_pipes(i, &head, record, report);
	instance_update(i);
	if (head.timer < 0)
		return;
	ev_timer_set(&i->timer, head.timer, 0);
	ev_timer_start(k->loop, &i->timer);
}

static void take_link(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_link head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	if (!link_of(k, head.instance, &head.session))
		LOG_TEXT(k->log, LOG_LEVEL_ERROR, "out of memory: a session was not taken over");
}

static void take_text(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_text head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	struct link *l = link_of(k, head.instance, &head.session);
	if (!l)
		return;
	bool taken = false;
	if (head.kind == ESTATE_HELD)
		taken = link_hold(l, record->texts[0]);
	else if (head.kind == ESTATE_ASKED)
		taken = text_add(&l->asks, &l->ask_count, LINK_ASKS_MAX, record->texts[0]);
	else if (head.kind == ESTATE_URI)
		taken = text_add(&l->uris, &l->uri_count, LINK_URIS_MAX, record->texts[0]);
	if (taken && head.kind == ESTATE_HELD)
		TAILQ_LAST(&l->held, text_list)->since = head.since;
}

static void take_outlet(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_outlet head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	struct peer *p = peer_of(k, head.peer);
	struct link *l = link_of(k, head.instance, &head.session);
	if (p && (!l || !outlet_create(l, p, head.request)))
		peer_tell(p, KEEPER_ENDED, head.request, head.instance, NULL, 0);
}

static void take_call(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_call head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	struct peer *p = peer_of(k, head.peer);
	struct instance *i = instance_of(k, head.instance);
	struct link *l = i && head.linked ? link_of(k, head.instance, &head.session) : NULL;
	uint64_t last = k->last_number;
	/* The child knows it by this number. */
	k->last_number = head.number - 1;
	struct call *call = i && (l || !head.linked) ? call_create(i, p, l, head.request, head.kind,
							   record->texts[0], record->texts[1])
						     : NULL;
	k->last_number = last > k->last_number ? last : k->last_number;
	if (call) {
		call->listens = head.listens;
		call->wants_log = head.wants_log;
	} else if (p) {
		peer_fail(p, head.request, METRIC_REASON_CLOSED, "out of memory");
	}
}

static void take_waiter(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_waiter head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	struct peer *p = peer_of(k, head.peer);
	if (p)
		intake_take(p, &head.frame, record->texts[0], (uint32_t)head.answers);
}

static void take_remnant(
    struct keeper *k, const struct handover_record *record, struct handover_reader *left)
{
	(void)left;
	remnant_inherit(k, record);
}

static const struct {
	void (*take)(
	    struct keeper *k, const struct handover_record *record, struct handover_reader *left);
	unsigned texts;
} rows[] = {
    [ESTATE_KEEPER] = {take_keeper, 0},
    [ESTATE_FLEET] = {take_fleet, 3},
    [ESTATE_PEER] = {take_peer, 2},
    [ESTATE_INSTANCE] = {take_instance, 4},
    [ESTATE_LINK] = {take_link, 0},
    [ESTATE_TEXT] = {take_text, 1},
    [ESTATE_OUTLET] = {take_outlet, 0},
    [ESTATE_CALL] = {take_call, 2},
    [ESTATE_WAITER] = {take_waiter, 1},
    [ESTATE_REMNANT] = {take_remnant, 1},
};

void keeper_inherit(struct keeper *k, struct handover_reader *left)
{
	struct handover_record record;
	struct instance *i, *next;

	while (handover_next(left, &record)) {
		if (record.type < sizeof(rows) / sizeof(rows[0]) && rows[record.type].take &&
		    record.count >= rows[record.type].texts)
			rows[record.type].take(k, &record, left);
	}
	/* Some may have ended in between; what they said before counts. */
	HASH_ITER (hh, k->by_id, i, next) {
		if (i->pid <= 0 || i->pidfd >= 0)
			continue;
		instance_ended(i, "how is not known");
	}
}
