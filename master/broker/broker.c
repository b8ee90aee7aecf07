/* broker: the loop of the broker process: accepting workers, expiring sessions, compacting the
 * journal, obeying the master. It decides nothing about its own end: the master orders it; without
 * one it serves until the last worker is gone (holder.h). */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/channel.h"
#include "common/ipc/frame.h"
#include "common/turn.h"
#include "master/broker/estate.h"

enum { BROKER_ACCEPT_BUDGET = 8, BROKER_EXPIRE_BUDGET = 200 };

static const double tick_idle = 1, tick_busy = 0.001, accept_pause = 0.1; /* seconds */

/* An expired session whose upstream side no worker could be told to end yet. */
struct reap {
	TAILQ_ENTRY(reap) link;
	uint64_t cached;
	size_t length;
	char record[];
};

void broker_reaps_send(struct broker *b)
{
	struct reap *r;

	for (int i = 0; i < BROKER_EXPIRE_BUDGET && (r = TAILQ_FIRST(&b->reaps)); i++) {
		if (!clients_reap_session(b, r->cached, r->record, r->length))
			return;
		TAILQ_REMOVE(&b->reaps, r, link);
		b->reap_count--;
		free(r);
	}
}

static void broker_reap(struct broker *b, const struct session *s)
{
	if (clients_reap_session(b, s->cached, s->record, s->length))
		return;
	reap_inherit(b, s->cached, (struct span){s->record, s->length});
}

void reap_inherit(struct broker *b, uint64_t cached, struct span record)
{
	struct reap *r = b->reap_count < BROKER_REAPS_MAX ? malloc(sizeof(*r) + record.n) : NULL;

	if (!r)
		return;
	r->cached = cached;
	r->length = record.n;
	memcpy(r->record, record.p, record.n);
	TAILQ_INSERT_TAIL(&b->reaps, r, link);
	b->reap_count++;
}

void reaps_leave(const struct broker *b, struct handover *h)
{
	const struct reap *r;

	TAILQ_FOREACH (r, &b->reaps, link) {
		struct estate_reap head = {.cached = r->cached};
		handover_put(
		    h, ESTATE_REAP, &head, sizeof(head), &(struct span){r->record, r->length}, 1);
	}
}

/* True when more sessions may have expired than the budget allows. */
static bool broker_expire(struct broker *b)
{
	struct session *s;

	for (int i = 0; i < BROKER_EXPIRE_BUDGET; i++) {
		s = table_expired(&b->table, clock_coarse());
		if (!s)
			return false;
		/* Not journaled for lack of memory: it comes back after a crash and expires anew.
		 */
		if (journal_end(&b->journal, s) != 0)
			LOG(b->boot->log, LOG_LEVEL_WARN, "session journal is full",
			    LOG_UINT("sessions", table_count(&b->table)));
		struct session_id id = session_key(s);
		clients_invalidate(b, &id, clients_caching(b, s, NULL), 0);
		broker_reap(b, s);
		table_remove(&b->table, s);
		METRIC_ADD(b->metrics, SESSIONS_ENDED, 1, .a = METRIC_END_EXPIRED);
		METRIC_SET(b->metrics, SESSIONS_ACTIVE, table_count(&b->table), 0);
	}
	return true;
}

static void broker_tick(struct ev_loop *loop, ev_timer *w, int events)
{
	struct broker *b = container_of(w, struct broker, tick);
	struct timespec now;

	turn_enter("tick");
	(void)events;
	changes_expire(&b->changes, clock_coarse());
	bool more = broker_expire(b);
	more |= journal_compact(&b->journal, &b->table);
	broker_reaps_send(b);
	if (clock_gettime(CLOCK_MONOTONIC, &now) == 0)
		metrics_heartbeat(
		    b->metrics, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	w->repeat = more ? tick_busy : tick_idle;
	ev_timer_again(loop, w);
}

static void broker_resume(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)events;
	ev_io_start(loop, &container_of(w, struct broker, pause)->listener);
}

static void broker_accept(struct ev_loop *loop, ev_io *w, int events)
{
	struct broker *b = container_of(w, struct broker, listener);

	turn_enter("accept");
	(void)events;
	for (int i = 0; i < BROKER_ACCEPT_BUDGET; i++) {
		int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			client_open(b, fd);
			continue;
		}
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		ev_io_stop(loop, w);
		ev_timer_set(&b->pause, accept_pause, 0);
		ev_timer_start(loop, &b->pause);
		return;
	}
}

/* An order of the master's. */
static void obey(struct broker *b, const struct frame *order, const char *payload, const int *fds,
    unsigned count)
{
	if (order->type >= MANIFEST_ANEW) {
		holder_take(&b->holder, order, payload, fds, count);
		return;
	}
	if (order->type == CHANNEL_LOG && count == 1) {
		log_replace_fd(b->boot->log, fds[0]);
		return;
	}
	while (count > 0)
		close(fds[--count]);
	if (order->type == CHANNEL_RETIRE)
		b->retiring = true;
	if (order->type == CHANNEL_SESSIONS_MAX && order->length == sizeof(b->sessions_max))
		memcpy(&b->sessions_max, payload, sizeof(b->sessions_max));
	if (order->type == CHANNEL_SILENT && order->length == sizeof(int32_t)) {
		int32_t pid;
		memcpy(&pid, payload, sizeof(pid));
		clients_give_up(b, pid);
	}
	/* Nothing of ours is in flight longer than a turn: draining is stopping. */
	if (order->type == CHANNEL_DRAIN || order->type == CHANNEL_STOP)
		ev_break(b->loop, EVBREAK_ALL);
}

static void broker_channel(struct ev_loop *loop, ev_io *w, int events)
{
	struct broker *b = container_of(w, struct broker, channel);
	char payload[FRAME_PAYLOAD_MAX];
	struct frame header;
	int fds[FRAME_FDS_MAX];
	unsigned count;

	turn_enter("master");
	(void)events;
	for (int budget = BROKER_FRAME_BUDGET; budget > 0; budget--) {
		int got = frame_receive_fds(w->fd, &header, payload, fds, &count);
		if (got == -EAGAIN)
			return;
		if (got != 1) {
			ev_io_stop(loop, w);
			b->orphaned = true;
			return;
		}
		obey(b, &header, payload, fds, count);
	}
}

static void broker_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
	struct broker *b = container_of(w, struct broker, prepare);

	turn_enter("end of turn");
	(void)events;
	clients_reap(b);
	if (b->orphaned && !clients_any(b))
		ev_break(loop, EVBREAK_ALL);
	log_flush(b->boot->log);
	turn_end(&b->turn, b->metrics, b->boot->log);
	if (b->retiring && !ev_is_active(&b->leave))
		broker_leave(b);
}

/* Only wakes the loop: the end of the turn tries again to make room. */
static void broker_wake(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)loop;
	(void)w;
	(void)events;
}

static void broker_watch(struct broker *b)
{
	ev_io_init(&b->listener, broker_accept, b->boot->broker_listener, EV_READ);
	ev_io_start(b->loop, &b->listener);
	ev_io_init(&b->channel, broker_channel, b->boot->channel, EV_READ);
	ev_io_start(b->loop, &b->channel);
	ev_timer_init(&b->tick, broker_tick, tick_idle, tick_idle);
	ev_timer_start(b->loop, &b->tick);
	ev_timer_init(&b->pause, broker_resume, accept_pause, 0);
	ev_timer_init(&b->leave, broker_wake, 0, 0);
	ev_prepare_init(&b->prepare, broker_prepare);
	ev_prepare_start(b->loop, &b->prepare);
	turn_watch(&b->turn, b->loop);
}

static void broker_close(struct broker *b)
{
	struct reap *r;

	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		if (b->clients[i])
			client_close(b->clients[i]);
	}
	clients_reap(b);
	while ((r = TAILQ_FIRST(&b->reaps))) {
		TAILQ_REMOVE(&b->reaps, r, link);
		free(r);
	}
	holder_close(&b->holder);
	changes_close(&b->changes);
	table_close(&b->table);
	ev_loop_destroy(b->loop);
	log_flush(b->boot->log);
}

/* The sessions are in the journal; the rest, if the broker before made room for us, is with it. */
static int broker_take_over(struct broker *b)
{
	struct handover_reader left;
	int error = journal_open(&b->journal, b->boot->journal, &b->table, clock_coarse());

	if (error || !handover_open(&left, b->boot->left))
		return error;
	broker_inherit(b, &left);
	handover_close(&left);
	return 0;
}

int broker_main(const struct role_boot *boot)
{
	struct broker b = {.boot = boot, .sessions_max = boot->config->sessions.max};
	struct channel_generation generation = {.generation = boot->generation};
	struct frame ready = {.type = CHANNEL_READY, .length = sizeof(generation)};

	/* A Ctrl-C reaches the whole process group; only the master acts on it. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	LIST_INIT(&b.dead);
	TAILQ_INIT(&b.reaps);
	table_init(&b.table);
	b.changes.confirm = client_confirm;
	b.metrics = metrics_slot_open(boot->metrics, boot->metrics_slot, getpid());
	b.loop = ev_loop_new(EVFLAG_AUTO);
	if (!b.loop)
		return EXIT_FAILURE;
	int error = broker_take_over(&b);
	if (!error)
		error = holder_open(&b.holder, b.loop, boot->log);
	if (!error)
		error = frame_send(boot->channel, &ready, &generation, -1);
	if (error) {
		LOG(boot->log, LOG_LEVEL_ERROR, "broker cannot start", LOG_ERRNO(-error));
	} else {
		METRIC_SET(b.metrics, SESSIONS_ACTIVE, table_count(&b.table), 0);
		broker_watch(&b);
		ev_run(b.loop, 0);
	}
	broker_close(&b);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
