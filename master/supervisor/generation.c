/*
 * generation: the workers of one configuration, as a whole.
 *
 * STARTING until all are READY, then SERVING; DRAINING once another took over. Slots are dealt by
 * number; a worker that is not accepting is stood in for by the next one that is, so that no queue
 * waits for a process that is not there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/channel.h"
#include "master/supervisor/children.h"
#include "master/supervisor/inventory.h"

enum {
	DRAINING_MAX = 2, /* generations */
};

static const double ready_patience = 10, drain_grace = 2, pace_max = 5; /* seconds */

static bool all_gone(const struct generation *g)
{
	const struct child *c;

	TAILQ_FOREACH (c, &g->workers, link) {
		if (c->pid > 0)
			return false;
	}
	return true;
}

/* It did not even cut its connections itself. */
static void kill_undrained(struct child *c)
{
	struct supervisor *s = c->supervisor;
	uint64_t cut = c->metrics_slot < 0 ? 0
					   : metrics_slot_value(s->metrics, c->metrics_slot,
						 M_CONNECTIONS_OPEN, (struct metric_at){0});

	METRIC_ADD(s->cells, DRAIN_FORCED, cut, 0);
	LOG(s->log, LOG_LEVEL_WARN, "did not drain in time: killed", LOG_UINT("worker", c->number),
	    LOG_UINT("generation", c->generation->number), LOG_UINT("cut", cut));
	child_kill(c);
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct generation *g = container_of(timer, struct generation, deadline);
	struct child *c;

	(void)loop;
	(void)events;
	if (g->state == GENERATION_STARTING && g->paced) {
		g->paced = false;
		reload_ready(g->supervisor);
		return;
	}
	if (g->state == GENERATION_STARTING) {
		reload_failed(g->supervisor, "the new workers were not ready within 10 seconds");
		return;
	}
	TAILQ_FOREACH (c, &g->workers, link) {
		if (c->pid <= 0 || c->state != CHILD_DRAINING)
			continue;
		kill_undrained(c);
	}
	generation_update(g);
}

static bool make_workers(struct generation *g)
{
	for (unsigned i = 0; i < g->config->workers; i++) {
		struct child *c = child_create(g->supervisor, ROLE_WORKER, g, i);
		if (!c)
			return false;
		TAILQ_INSERT_TAIL(&g->workers, c, link);
	}
	return true;
}

/* The sealed bytes, which the keeper parses again when they come to serve. -1 when there is no
 * room.
 */
static int config_memfd(struct span bytes)
{
	int fd = memfd_create("margay-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	for (size_t at = 0; fd >= 0 && at < bytes.n;) {
		ssize_t n = pwrite(fd, bytes.p + at, bytes.n - at, (off_t)at);
		if (n <= 0) {
			close(fd);
			return -1;
		}
		at += (size_t)n;
	}
	/* Whoever reads it later, in this process or another, reads the same. */
	if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void log_warnings(struct supervisor *s, const struct config *config)
{
	for (size_t i = 0; i < config->warnings.count; i++) {
		const struct config_error *row = &config->warnings.rows[i];
		LOG(s->log, LOG_LEVEL_WARN, "configuration warning",
		    LOG_STR("file", source_name(&s->source)), LOG_UINT("line", row->line),
		    LOG_STR("key", row->key), LOG_STR("problem", row->problem),
		    LOG_STR("remedy", row->remedy));
	}
}

struct generation *generation_create(
    struct supervisor *s, struct config *config, struct span bytes, struct config_errors *errors)
{
	struct generation *g = calloc(1, sizeof(*g));
	struct buffer sealed = {0};

	if (!g) {
		config_free(config);
		return NULL;
	}
	g->supervisor = s;
	g->config = config;
	g->number = s->last_generation + 1;
	g->config_fd = -1;
	g->fallback_fd = -1;
	log_warnings(s, config);
	if (config_seal(config, bytes, &sealed) == 0) {
		g->config_fd = config_memfd(buffer_span(&sealed));
		config_sha256(buffer_span(&sealed), g->sha256);
	}
	buffer_release(&sealed);
	TAILQ_INIT(&g->workers);
	TAILQ_INSERT_TAIL(&s->generations, g, link);
	memset(g->adopter, -1, sizeof(g->adopter));
	metrics_label(s->metrics, config);
	ev_timer_init(&g->deadline, on_deadline, 0, 0);
	if (!listeners_acquire(s->listeners, config, &g->listeners, errors) && g->config_fd >= 0 &&
	    make_workers(g))
		return g;
	generation_free(g);
	return NULL;
}

int generation_start(struct generation *g)
{
	struct supervisor *s = g->supervisor;
	struct child *c;

	s->last_generation = g->number;
	ev_timer_set(&g->deadline, ready_patience, 0);
	ev_timer_start(s->loop, &g->deadline);
	TAILQ_FOREACH (c, &g->workers, link) {
		child_spawn(c);
		if (c->pid <= 0)
			return -EAGAIN;
	}
	return 0;
}

/* The worker that should accept from a slot: its own, or the next one that accepts. -1: none does.
 */
static int slot_server(const struct child *const *workers, unsigned count, unsigned slot)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned number = (slot + i) % count;
		if (workers[number]->state == CHILD_ACCEPTING && !workers[number]->silent)
			return (int)number;
	}
	return -1;
}

static void tell_slot(struct child *c, uint16_t type, unsigned slot)
{
	struct channel_slot payload = {.slot = slot};

	child_tell(c, type, &payload, sizeof(payload), -1);
}

/* See to it that every slot is served, and by nobody but its own worker where that one is there. */
static void deal_slots(struct generation *g)
{
	struct child *workers[CONFIG_WORKERS_MAX], *c;
	unsigned count = 0;

	TAILQ_FOREACH (c, &g->workers, link)
		workers[count++] = c;
	for (unsigned slot = 0; slot < LISTENER_SLOTS; slot++) {
		int server = slot_server((const struct child *const *)workers, count, slot);
		int adopter = server == (int)(slot % count) ? -1 : server;
		if (adopter == g->adopter[slot])
			continue;
		if (g->adopter[slot] >= 0)
			tell_slot(workers[g->adopter[slot]], CHANNEL_RELEASE, slot);
		if (adopter >= 0)
			tell_slot(workers[adopter], CHANNEL_ADOPT, slot);
		g->adopter[slot] = adopter;
	}
}

static bool all_ready(const struct generation *g)
{
	const struct child *c;

	TAILQ_FOREACH (c, &g->workers, link) {
		if (c->state != CHILD_READY)
			return false;
	}
	return true;
}

/* A replacement in a serving generation accepts as soon as it can. */
static void accept_ready(struct generation *g)
{
	struct child *c;

	TAILQ_FOREACH (c, &g->workers, link) {
		if (c->state != CHILD_READY)
			continue;
		c->state = CHILD_ACCEPTING;
		child_tell(c, CHANNEL_ACCEPT, NULL, 0, -1);
	}
}

static bool is_draining(const struct generation *g)
{
	const struct child *c;

	TAILQ_FOREACH (c, &g->workers, link) {
		if (c->pid > 0 && c->state == CHILD_DRAINING)
			return true;
	}
	return false;
}

double generation_pace(const struct supervisor *s)
{
	const struct generation *g, *oldest = NULL;
	unsigned count = 0;

	TAILQ_FOREACH (g, &s->generations, link) {
		if (!is_draining(g))
			continue;
		oldest = oldest ? oldest : g;
		count++;
	}
	if (count < DRAINING_MAX)
		return 0;
	double linger = oldest->config->timeouts.keepalive_linger;
	double wait =
	    oldest->drain_begun + (linger < pace_max ? linger : pace_max) - clock_coarse();
	return wait > 0 ? wait : 0;
}

/* Its commit would cut the oldest generation off: that one first gets a moment to end by itself. */
static bool must_wait(struct generation *g)
{
	struct supervisor *s = g->supervisor;
	double wait = generation_pace(s);

	g->paced = wait > 0;
	if (!g->paced)
		return false;
	ev_timer_stop(s->loop, &g->deadline);
	ev_timer_set(&g->deadline, wait, 0);
	ev_timer_start(s->loop, &g->deadline);
	return true;
}

void generation_update(struct generation *g)
{
	struct supervisor *s = g->supervisor;

	switch (g->state) {
	case GENERATION_STARTING:
		if (all_ready(g) && !must_wait(g))
			reload_ready(s);
		break;
	case GENERATION_SERVING:
		accept_ready(g);
		deal_slots(g);
		break;
	case GENERATION_DRAINING:
		if (!all_gone(g) || child_replace_needs(g))
			break;
		LOG(s->log, LOG_LEVEL_INFO, "generation ended", LOG_UINT("generation", g->number));
		generation_free(g);
		if (s->reload.next)
			generation_update(s->reload.next);
		supervisor_check_stopped(s);
		break;
	}
}

/* The deadline of a drain; false: there is an earlier one. */
static bool bring_forward(struct generation *g, double after)
{
	struct ev_loop *loop = g->supervisor->loop;

	if (ev_is_active(&g->deadline) && ev_timer_remaining(loop, &g->deadline) <= after)
		return false;
	ev_timer_stop(loop, &g->deadline);
	ev_timer_set(&g->deadline, after, 0);
	ev_timer_start(loop, &g->deadline);
	return true;
}

void generation_drain(struct generation *g)
{
	struct supervisor *s = g->supervisor;
	struct child *c;

	const struct config_timeouts *after = &g->config->timeouts;
	bool stopping = s->state == SUPERVISOR_STOPPING, draining = g->state == GENERATION_DRAINING;
	struct channel_drain drain = {
	    .leaving = stopping ? 0 : listeners_leaving(&g->listeners, &s->current->listeners)};

	if (!draining)
		ev_timer_stop(s->loop, &g->deadline);
	if (!draining)
		g->drain_begun = clock_coarse();
	g->state = GENERATION_DRAINING;
	bring_forward(g, (stopping ? after->shutdown : after->drain_timeout) + drain_grace);
	if (draining)
		return;
	TAILQ_FOREACH (c, &g->workers, link) {
		c->expected = true;
		ev_timer_stop(s->loop, &c->restart);
		if (c->pid <= 0)
			continue;
		c->state = CHILD_DRAINING;
		child_tell(c, CHANNEL_DRAIN, &drain, sizeof(drain), -1);
	}
}

/* Many reloads in a row must not pile up generations: the oldest have had their time. */
static void cut_oldest(struct supervisor *s)
{
	struct generation *g;
	struct child *c;
	unsigned count = 0;

	TAILQ_FOREACH (g, &s->generations, link)
		count += is_draining(g);
	TAILQ_FOREACH (g, &s->generations, link) {
		if (!is_draining(g) || count-- <= DRAINING_MAX || !bring_forward(g, drain_grace))
			continue;
		LOG(s->log, LOG_LEVEL_WARN, "too many generations drain: the oldest is cut off",
		    LOG_UINT("generation", g->number));
		TAILQ_FOREACH (c, &g->workers, link)
			child_tell(c, CHANNEL_STOP, NULL, 0, -1);
	}
}

void generation_commit(struct generation *g)
{
	struct supervisor *s = g->supervisor;
	struct generation *old, *next;

	ev_timer_stop(s->loop, &g->deadline);
	g->state = GENERATION_SERVING;
	g->begun = clock_coarse();
	generation_keep_fallback(g, s->current);
	s->current = g;
	/* The keeper hears of new upstreams before any worker can ask for them. */
	child_tell(s->keeper, CHANNEL_CONFIG, NULL, 0, g->config_fd);
	uint32_t sessions_max = g->config->sessions.max;
	child_tell(s->broker, CHANNEL_SESSIONS_MAX, &sessions_max, sizeof(sessions_max), -1);
	listeners_commit(s->listeners, &g->listeners, s->loop);
	activation_check(s);
	accept_ready(g);
	METRIC_SET(s->cells, GENERATION, g->number, 0);
	LOG(s->log, LOG_LEVEL_INFO, "generation serves", LOG_UINT("generation", g->number),
	    LOG_UINT("workers", g->config->workers), LOG_STR("config_sha256", g->sha256));
	/* Before the others drain: a successor of this process must know who accepts instead. */
	inventory_update(s);
	/* Only now the others hear of it. */
	TAILQ_FOREACH_SAFE (old, &s->generations, link, next) {
		if (old != g)
			generation_drain(old);
	}
	cut_oldest(s);
	TAILQ_FOREACH_SAFE (old, &s->generations, link, next) {
		if (old != g)
			generation_update(old);
	}
}

/* Places that have no process are filled again; what drains goes on. */
void generation_inherit(struct generation *g, enum generation_state state)
{
	struct supervisor *s = g->supervisor;
	struct generation *later;

	TAILQ_REMOVE(&s->generations, g, link);
	TAILQ_FOREACH (later, &s->generations, link) {
		if (later->number > g->number)
			break;
	}
	if (later)
		TAILQ_INSERT_BEFORE(later, g, link);
	else
		TAILQ_INSERT_TAIL(&s->generations, g, link);
	g->state = state;
	if (state == GENERATION_SERVING)
		s->current = g;
	else
		bring_forward(g, g->config->timeouts.drain_timeout + drain_grace);
}

void generation_resume(struct generation *g)
{
	struct child *c;

	TAILQ_FOREACH (c, &g->workers, link) {
		if (c->pid <= 0 && g->state == GENERATION_SERVING)
			child_spawn(c);
	}
	generation_update(g);
}

void generation_abort(struct generation *g)
{
	struct child *c;

	/* It is freed when its processes are reaped, but never under the feet of the caller. */
	g->state = GENERATION_DRAINING;
	TAILQ_FOREACH (c, &g->workers, link)
		child_kill(c);
	ev_timer_stop(g->supervisor->loop, &g->deadline);
	ev_timer_set(&g->deadline, 0, 0);
	ev_timer_start(g->supervisor->loop, &g->deadline);
}

void generation_free(struct generation *g)
{
	struct supervisor *s = g->supervisor;
	struct child *c;

	ev_timer_stop(s->loop, &g->deadline);
	while ((c = TAILQ_FIRST(&g->workers))) {
		TAILQ_REMOVE(&g->workers, c, link);
		child_free(c);
	}
	listeners_release(s->listeners, &g->listeners);
	if (g->config_fd >= 0)
		close(g->config_fd);
	if (g->fallback_fd >= 0)
		close(g->fallback_fd);
	TAILQ_REMOVE(&s->generations, g, link);
	if (s->current == g)
		s->current = NULL;
	config_free(g->config);
	free(g);
}
