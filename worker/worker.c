/*
 * worker: see worker.h. Life: start, connect to the broker, READY, accept, drain, exit.
 *
 * The master speaks over the channel; its end of file means that the master is dead, and the worker
 * drains. Each turn of the loop ends in on_prepare: connections with buffered requests get their
 * turn, what the turn has to say to clients and upstreams is sent, what was closed is freed.
 */
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/channel.h"
#include "common/ipc/frame.h"
#include "common/turn.h"
#include "worker/accept.h"
#include "worker/drain.h"
#include "worker/http/conn.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/cache.h"
#include "worker/mcp/catalogue.h"
#include "worker/mcp/desktop.h"
#include "worker/mcp/era.h"
#include "worker/mcp/errand.h"
#include "worker/mcp/fanout.h"
#include "worker/mcp/feed.h"
#include "worker/mcp/inlet.h"
#include "worker/mcp/lease.h"
#include "worker/mcp/listen.h"
#include "worker/mcp/parked.h"
#include "worker/mcp/question.h"
#include "worker/mcp/replay.h"
#include "worker/mcp/resume.h"
#include "worker/mcp/source.h"
#include "worker/mcp/streams.h"
#include "worker/mcp/up.h"
#include "worker/policy/clients.h"
#include "worker/route.h"
#include "worker/upstream/stdio.h"
#include "worker/upstream/upstream.h"

static const double heartbeat_every = 0.25;

void worker_ready(struct worker *w, struct conn *c)
{
	if (c->in_ready || c->closed)
		return;
	c->in_ready = true;
	TAILQ_INSERT_TAIL(&w->ready, c, ready);
}

void worker_check_done(struct worker *w)
{
	if (w->draining && !w->drain.leaving && w->conn_count == 0 && w->aside_count == 0 &&
	    w->parked_count == 0 && LIST_EMPTY(&w->inlets) && !sessions_mailing(w->sessions) &&
	    (w->drain.last || !errands_awaited(w)))
		ev_break(w->loop, EVBREAK_ALL);
}

int worker_tell_master(struct worker *w, uint16_t type, const void *payload, size_t n)
{
	struct frame frame = {
	    .magic = FRAME_MAGIC, .version = FRAME_VERSION, .type = type, .length = (uint32_t)n};

	return frame_send(w->boot->channel, &frame, payload, -1);
}

/* The generation serves. */
static void serve(struct worker *w)
{
	w->accepting = !w->draining;
	if (!w->accepting)
		return;
	accept_start(w->slots);
	int error = w->config->connected ? desktop_open(w, drain_last, &w->desktop) : 0;
	if (!error)
		return;
	LOG(w->log, LOG_LEVEL_ERROR, "stdin and stdout can't be used", LOG_ERRNO(-error));
	drain_last(w);
}

static unsigned slot_of(const void *payload, uint32_t length)
{
	struct channel_slot slot;

	if (length != sizeof(slot))
		return LISTENER_SLOTS; /* no slot has this number */
	memcpy(&slot, payload, sizeof(slot));
	return slot.slot;
}

static uint32_t leaving_of(const void *payload, uint32_t length)
{
	struct channel_drain drain = {0};

	if (length == sizeof(drain))
		memcpy(&drain, payload, sizeof(drain));
	return drain.leaving;
}

static void on_message(struct worker *w, const struct frame *frame, const void *payload, int *fd)
{
	switch (frame->type) {
	case CHANNEL_ACCEPT:
		serve(w);
		break;
	case CHANNEL_DRAIN:
		drain_start(w, leaving_of(payload, frame->length));
		break;
	case CHANNEL_LAST:
		parked_give_up(w);
		drain_last(w);
		break;
	case CHANNEL_STOP:
		drain_cut(w);
		break;
	case CHANNEL_ADOPT:
		accept_adopt(w->slots, slot_of(payload, frame->length));
		break;
	case CHANNEL_RELEASE:
		accept_release(w->slots, slot_of(payload, frame->length));
		break;
	case CHANNEL_LOG:
		log_replace_fd(w->log, *fd);
		*fd = -1;
		break;
	default:
		LOG(w->log, LOG_LEVEL_WARN, "unknown message from the master",
		    LOG_UINT("type", frame->type));
	}
}

static void on_channel(struct ev_loop *loop, ev_io *io, int events)
{
	struct worker *w = container_of(io, struct worker, channel);
	struct frame frame;
	int fd = -1;

	turn_enter("master");
	(void)loop;
	(void)events;
	/* No callback of ours is in the middle of the scratch: it is free here. */
	int status = frame_receive(io->fd, &frame, w->scratch, &fd);
	if (status == -EAGAIN)
		return;
	if (status <= 0) {
		ev_io_stop(w->loop, io);
		LOG_TEXT(w->log, LOG_LEVEL_ERROR, "the master is gone: draining");
		drain_last(w);
		return;
	}
	on_message(w, &frame, w->scratch, &fd);
	if (fd >= 0)
		close(fd);
}

/* Each once: who still has requests is behind the others, and behind what comes from outside. */
static void serve_ready(struct worker *w)
{
	const struct conn *last = TAILQ_LAST(&w->ready, conn_list);
	struct conn *c = NULL;

	for (int budget = WORKER_READY_BUDGET;
	     budget > 0 && c != last && (c = TAILQ_FIRST(&w->ready)); budget--) {
		TAILQ_REMOVE(&w->ready, c, ready);
		c->in_ready = false;
		conn_serve_buffered(c);
	}
}

static void free_closed(struct worker *w)
{
	struct conn *c;
	struct exchange *x;

	errands_free_closed(w);
	feeds_free_closed(w);
	sources_free_closed(w);
	listenings_free_closed(w);
	liaisons_free_closed(w);
	inlets_free_closed(w);
	while ((x = TAILQ_FIRST(&w->closed_exchanges))) {
		TAILQ_REMOVE(&w->closed_exchanges, x, link);
		exchange_free(x);
	}
	while ((c = TAILQ_FIRST(&w->closed_conns))) {
		TAILQ_REMOVE(&w->closed_conns, c, link);
		conn_free(c);
	}
	upstreams_free_closed(w);
}

/* The loop must not sleep while a request waits in a buffer, or what the end of this turn brought
 * waits to be sent. */
static void stay_awake(struct worker *w)
{
	if (TAILQ_EMPTY(&w->ready) && TAILQ_EMPTY(&w->posted_upstreams) &&
	    TAILQ_EMPTY(&w->outbox.conns))
		ev_idle_stop(w->loop, &w->idle);
	else
		ev_idle_start(w->loop, &w->idle);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	struct worker *w = container_of(prepare, struct worker, prepare);

	turn_enter("end of turn");
	(void)loop;
	(void)events;
	w->handshakes = WORKER_HANDSHAKES;
	serve_ready(w);
	conns_send_posted(w);
	upstreams_send_posted(w);
	stdio_flush(w->stdio);
	free_closed(w);
	stay_awake(w);
	turn_end(&w->turn, w->metrics, w->log);
}

static void on_idle(struct ev_loop *loop, ev_idle *idle, int events)
{
	/* Being active is all it does: see stay_awake. */
	(void)loop;
	(void)idle;
	(void)events;
}

static void on_heartbeat(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker *w = container_of(timer, struct worker, heartbeat);
	uint64_t dropped = log_dropped(w->log);

	turn_enter("heartbeat");
	(void)loop;
	(void)events;
	metrics_heartbeat(w->metrics, clock_nanoseconds());
	METRIC_ADD(w->metrics, LOG_DROPPED, dropped - w->log_dropped_seen, 0);
	w->log_dropped_seen = dropped;
	log_flush(w->log);
}

static void on_broker_ready(void *context)
{
	struct worker *w = context;
	struct channel_generation generation = {.generation = w->boot->generation};

	if (worker_tell_master(w, CHANNEL_READY, &generation, sizeof(generation)))
		LOG_TEXT(w->log, LOG_LEVEL_ERROR, "master can't be told READY");
}

static void on_invalidated(void *context, const struct session_id *id)
{
	listen_changed(context, id);
}

static void on_reap(void *context, const struct session_record *record)
{
	aside_end_session(context, record);
}

static void on_mail_for_all(struct worker *w, enum mail_kind kind, struct span payload)
{
	if (kind == MAIL_CANCELLED)
		up_cancelled(w, payload);
}

/* The timeouts of a terminal's signals are the master's business: it tells us what to do. */
static void ignore_signals(void)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
}

static void watchers_start(struct worker *w)
{
	ev_io_init(&w->channel, on_channel, w->boot->channel, EV_READ);
	ev_io_start(w->loop, &w->channel);
	ev_prepare_init(&w->prepare, on_prepare);
	ev_prepare_start(w->loop, &w->prepare);
	turn_watch(&w->turn, w->loop);
	ev_idle_init(&w->idle, on_idle);
	ev_timer_init(&w->heartbeat, on_heartbeat, 0, heartbeat_every);
	ev_timer_start(w->loop, &w->heartbeat);
	drain_init(w);
}

static int open_all(struct worker *w)
{
	int error;

	TAILQ_INIT(&w->conns);
	TAILQ_INIT(&w->ready);
	TAILQ_INIT(&w->exchanges);
	TAILQ_INIT(&w->spare_exchanges);
	TAILQ_INIT(&w->closed_conns);
	TAILQ_INIT(&w->closed_exchanges);
	TAILQ_INIT(&w->outbox.conns);
	TAILQ_INIT(&w->closed_inlet_calls);
	/* Errands of all workers in one session with an upstream differ. */
	w->last_errand = (uint64_t)((unsigned)rand() & 0xfffff) << 32;
	conn_timeouts_init(w);
	upstream_timeouts_init(w);
	exchange_timeouts_init(w);
	parked_timeouts_init(w);
	question_timeouts_init(w);
	listen_timeouts_init(w);
	fanout_timeouts_init(w);
	source_timeouts_init(w);
	feed_timeouts_init(w);
	lease_timeouts_init(w);
	resume_timeouts_init(w);
	replay_timeouts_init(w);
	watchers_start(w);
	if ((error = clients_open(&w->clients)) || (error = streams_open(&w->streams)) ||
	    (error = cache_open(w->config->cache.size, &w->cache)) ||
	    (error = upstreams_open(w, &w->upstreams)) || (error = routes_open(w)) ||
	    (error = resolver_open(w->loop, w->log, &w->resolver)) ||
	    (error = stdio_open(w, &w->stdio)) || (error = accept_open(w, &w->slots)) ||
	    (error = sessions_open(w->loop, w->boot, w->metrics, on_reap, w, &w->sessions)))
		return error;
	sessions_on_ready(w->sessions, on_broker_ready, w);
	sessions_on_invalidate(w->sessions, on_invalidated);
	mail_start(w, on_mail_for_all);
	return 0;
}

void worker_close(struct worker *w)
{
	/* Whatever closing starts must find the loop draining: nothing new is begun. */
	w->draining = true;
	accept_close(w->slots);
	while (!TAILQ_EMPTY(&w->conns))
		conn_close(TAILQ_FIRST(&w->conns));
	free_closed(w);
	if (w->desktop)
		desktop_close(w->desktop);
	inlets_close(w);
	errands_close(w);
	feeds_close(w);
	liaisons_close(w);
	leases_close(w);
	asides_close(w);
	era_close(w);
	catalogues_close(w);
	upstreams_close(w);
	free_closed(w);
	exchanges_close(w);
	sessions_close(w->sessions);
	resolver_close(w->resolver);
	stdio_close(w->stdio);
	streams_close(w->streams);
	cache_close(w->cache);
	clients_close(w->clients);
	free(w->routes);
	free(w->upstreams);
	LOG_TEXT(w->log, LOG_LEVEL_INFO, "worker ended");
	log_flush(w->log);
	ev_loop_destroy(w->loop);
	free(w);
}

int worker_open(const struct role_boot *boot, struct worker **out)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w || !(w->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV))) {
		free(w);
		return -ENOMEM;
	}
	w->boot = boot;
	w->config = boot->config;
	w->log = boot->log;
	w->metrics = metrics_slot_open(boot->metrics, boot->metrics_slot, (int32_t)getpid());
	*out = w;
	return open_all(w);
}

int worker_main(const struct role_boot *boot)
{
	struct worker *w;

	ignore_signals();
	srand((unsigned)getpid()); /* jitter must differ between workers */
	int error = worker_open(boot, &w);
	if (error) {
		LOG(boot->log, LOG_LEVEL_ERROR, "worker can't start", LOG_ERRNO(-error));
		log_flush(boot->log);
		return 1;
	}
	ev_run(w->loop, 0);
	drain_ended(w);
	worker_close(w);
	return 0;
}
