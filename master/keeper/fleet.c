/* fleet: see fleet.h. */
#include "master/keeper/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/procfs.h"
#include "common/turn.h"
#include "master/keeper/peer.h"
#include "master/keeper/stateless.h"

static const double await_least = 0.002; /* seconds */

/* What children without a definition go by until they have ended. */
static const struct config_stdio undefined = {
    .line = 4 * 1024 * 1024, .children = 1, .failures = 1, .delay_max = 1, .handshake_timeout = 1};

static unsigned fleet_max(const struct fleet *f)
{
	return f->config->sharing == CONFIG_POOL && f->config->pool_max < f->config->children
		   ? f->config->pool_max
		   : f->config->children;
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct fleet *f = container_of(timer, struct fleet, retry);

	turn_enter("child start");
	(void)loop;
	(void)events;
	waiters_run(&f->waiters);
}

static struct fleet *fleet_create(struct keeper *k, const char *name,
    const struct config_stdio *config, struct definitions *definitions)
{
	struct fleet *f = calloc(1, sizeof(*f));

	if (!f || !(f->name = strdup(name))) {
		free(f);
		return NULL;
	}
	f->keeper = k;
	f->config = config;
	f->definitions = definitions;
	if (definitions)
		definitions->users++;
	f->metrics_id = metrics_upstream_id(k->boot->metrics, name);
	f->backoff = (struct backoff){.first = 0.1, .max = config->delay_max, .reset_after = 60};
	config_stdio_digest(config, f->digest);
	TAILQ_INIT(&f->instances);
	TAILQ_INIT(&f->waiters);
	ev_timer_init(&f->retry, on_retry, 0, 0);
	TAILQ_INSERT_TAIL(&k->fleets, f, link);
	return f;
}

static void definitions_leave(struct keeper *k, struct definitions *d)
{
	if (!d || --d->users > 0 || d == k->definitions)
		return;
	if (d->ours)
		config_free((struct config *)(uintptr_t)d->config);
	free(d);
}

static void fleet_free(struct fleet *f)
{
	struct keeper *k = f->keeper;

	waiters_fail(&f->waiters, METRIC_REASON_CLOSED, "it is no longer configured");
	ev_timer_stop(k->loop, &f->retry);
	TAILQ_REMOVE(&k->fleets, f, link);
	definitions_leave(k, f->definitions);
	free(f->name);
	free(f);
}

void fleets_close(struct keeper *k)
{
	struct fleet *f;

	while ((f = TAILQ_FIRST(&k->fleets)))
		fleet_free(f);
	struct definitions *last = k->definitions;
	k->definitions = NULL;
	if (last)
		last->users++;
	definitions_leave(k, last);
}

struct instance *fleet_spare(const struct fleet *f)
{
	struct instance *i;

	TAILQ_FOREACH (i, &f->instances, link) {
		if (i->state == INSTANCE_SPARE)
			return i;
	}
	return NULL;
}

struct instance *fleet_common(const struct fleet *f)
{
	struct instance *i;

	TAILQ_FOREACH (i, &f->instances, link) {
		if (!i->stateless && (i->state != INSTANCE_STOPPING || i->recycled))
			return i;
	}
	return NULL;
}

struct fleet *fleet_find(struct keeper *k, struct span name)
{
	struct fleet *f;

	TAILQ_FOREACH (f, &k->fleets, link) {
		if (!f->retired && span_equal(span_of(f->name), name))
			return f;
	}
	return NULL;
}

struct fleet *fleet_orphanage(struct keeper *k, const char *name)
{
	struct fleet *f = fleet_create(k, name, &undefined, NULL);

	if (f)
		f->retired = true;
	return f;
}

static void set_metrics(const struct fleet *f)
{
	struct metrics_slot *cells = f->keeper->metrics;

	METRIC_SET(cells, CHILDREN, f->running, f->metrics_id);
	METRIC_SET(cells, CHILD_SESSIONS, f->sessions, f->metrics_id);
	METRIC_SET(cells, CHILD_BROKEN, f->failures >= f->config->failures, f->metrics_id);
}

void fleet_changed(struct fleet *f)
{
	set_metrics(f);
	if (f->retired && TAILQ_EMPTY(&f->instances))
		fleet_free(f);
}

/* --- definitions
 * ------------------------------------------------------------------------------------ */

static const struct config_stdio *definition_of(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->upstream_count; i++) {
		const struct config_upstream *u = &config->upstreams[i];
		if (u->kind == CONFIG_STDIO && strcmp(u->name, name) == 0)
			return &u->stdio;
	}
	return NULL;
}

static void retire(struct fleet *f)
{
	struct instance *i, *next;

	LOG(f->keeper->log, LOG_LEVEL_INFO, "upstream ends: its definition changed or went",
	    LOG_STR("upstream", f->name), LOG_UINT("children", f->running));
	f->retired = true;
	waiters_run(&f->waiters);
	TAILQ_FOREACH_SAFE (i, &f->instances, link, next) {
		/* Calls in flight may end; fleets_tick sees to the rest. */
		if (!i->calls)
			instance_stop(i, "its definition changed");
	}
}

int fleets_configure(struct keeper *k, struct definitions *definitions)
{
	const struct config *config = definitions->config;
	struct definitions *before = k->definitions;
	struct fleet *f, *next;
	char digest[CONFIG_SHA256_TEXT];

	if (before)
		before->users++; /* until we are done */
	k->definitions = definitions;
	TAILQ_FOREACH_SAFE (f, &k->fleets, link, next) {
		const struct config_stdio *stdio = definition_of(config, f->name);
		if (f->retired)
			continue;
		if (stdio)
			config_stdio_digest(stdio, digest);
		if (!stdio || strcmp(digest, f->digest) != 0) {
			bool empty = TAILQ_EMPTY(&f->instances);
			retire(f);
			if (empty)
				fleet_changed(f);
			continue;
		}
		f->config = stdio;
		f->backoff.max = stdio->delay_max;
		definitions->users++;
		struct definitions *old = f->definitions;
		f->definitions = definitions;
		definitions_leave(k, old);
	}
	for (size_t i = 0; i < config->upstream_count; i++) {
		const struct config_upstream *u = &config->upstreams[i];
		if (u->kind == CONFIG_STDIO && !fleet_find(k, span_of(u->name)) &&
		    !fleet_create(k, u->name, &u->stdio, definitions))
			return -ENOMEM;
	}
	definitions_leave(k, before);
	return 0;
}

/* --- starting
 * --------------------------------------------------------------------------------------- */

enum fleet_gate fleet_gate(const struct fleet *f)
{
	double now = clock_coarse();

	if (f->retired || f->keeper->stopping)
		return FLEET_BROKEN;
	if (f->running >= fleet_max(f))
		return FLEET_FULL;
	if (now >= f->retry_at)
		return f->keeper->spawns < KEEPER_SPAWN_BUDGET ? FLEET_OPEN : FLEET_WAIT;
	return f->failures >= f->config->failures ? FLEET_BROKEN : FLEET_WAIT;
}

void fleet_gate_text(const struct fleet *f, enum fleet_gate gate, char *out, size_t size)
{
	double wait = f->retry_at - clock_coarse();

	if (f->keeper->stopping)
		snprintf(out, size, "Margay is stopping");
	else if (f->retired)
		snprintf(out, size, "it is no longer configured");
	else if (gate == FLEET_FULL)
		snprintf(out, size, "all of its %u children are in use (%s)", f->running,
		    f->config->sharing == CONFIG_POOL ? "sharing.pool.max or limits.children"
						      : "limits.children");
	else if (gate == FLEET_WAIT)
		snprintf(out, size, "too many wait for its children to start");
	else
		snprintf(out, size,
		    "crash loop: %u starts in a row failed, next try in %.1f s; last: %s",
		    f->failures, wait > 0 ? wait : 0, f->last_error);
}

void fleet_await(struct fleet *f)
{
	double wait = f->retry_at - clock_coarse();

	/* The timer and the coarse clock do not strike at once: it may be over already. */
	if (ev_is_active(&f->retry))
		return;
	ev_timer_set(&f->retry, wait > await_least ? wait : await_least, 0);
	ev_timer_start(f->keeper->loop, &f->retry);
}

void fleet_failed(struct fleet *f, const char *why)
{
	struct keeper *k = f->keeper;
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)getpid();
	if (f->failures++ == 0)
		backoff_reset(&f->backoff);
	f->start_failures++;
	double wait = backoff_failed(&f->backoff, 0, random);
	f->retry_at = clock_coarse() + wait;
	snprintf(f->last_error, sizeof(f->last_error), "%s", why);
	METRIC_ADD(k->metrics, CHILD_FAILURES, 1, f->metrics_id);
	LOG(k->log, LOG_LEVEL_ERROR, "child did not start", LOG_STR("upstream", f->name),
	    LOG_STR("reason", why), LOG_UINT("failures", f->failures),
	    LOG_MILLIS("retry_after_ms", (uint64_t)(wait * 1e6)));
	ev_timer_stop(k->loop, &f->retry);
	ev_timer_set(&f->retry, wait, 0);
	ev_timer_start(k->loop, &f->retry);
	set_metrics(f);
}

/* A child of it has lived for a while. */
static void fleet_works(struct fleet *f)
{
	if (f->failures == 0)
		return;
	LOG(f->keeper->log, LOG_LEVEL_INFO, "upstream works again", LOG_STR("upstream", f->name),
	    LOG_UINT("failures", f->failures));
	f->failures = 0;
	set_metrics(f);
}

unsigned fleet_restart(struct fleet *f)
{
	struct instance *i, *next;
	unsigned count = 0;

	f->failures = 0;
	f->retry_at = 0;
	f->legacy = false;
	TAILQ_FOREACH_SAFE (i, &f->instances, link, next) {
		count += i->pid > 0 && i->state != INSTANCE_STOPPING;
		instance_recycle(i, "the operator restarted it");
	}
	set_metrics(f);
	waiters_run(&f->waiters);
	return count;
}

/* --- from time to time
 * ------------------------------------------------------------------------------ */

static void keep_spares(struct fleet *f)
{
	if (f->config->sharing != CONFIG_POOL)
		return;
	while (f->spare < f->config->pool_min && fleet_gate(f) == FLEET_OPEN) {
		struct instance *i = instance_create(f);
		if (!i || !instance_spawn(i))
			return;
		/* Nobody has asked it anything: it has time. */
		ev_timer_stop(f->keeper->loop, &i->timer);
		i->state = INSTANCE_SPARE;
		f->spare++;
		if (f->failures > 0)
			return; /* one at a time until one works */
	}
}

static bool is_idle(const struct instance *i, double now)
{
	const struct link *l;

	for (l = i->links; l; l = l->hh.next) {
		if (!TAILQ_EMPTY(&l->outlets))
			return false;
	}
	return !i->calls && i->fleet->config->idle_timeout > 0 &&
	       now - i->last_used >= i->fleet->config->idle_timeout;
}

static void instance_tick(struct instance *i, double now)
{
	struct link *l, *next;

	noise_tick(i);
	if (i->state == INSTANCE_READY && now - i->ready_at >= INSTANCE_PROBATION)
		fleet_works(i->fleet);
	HASH_ITER (hh, i->links, l, next)
		link_expire(l, now);
	if (i->fleet->retired && !stateless_busy(i))
		instance_stop(i, "its definition changed");
	else if (i->state == INSTANCE_READY && is_idle(i, now))
		instance_recycle(i, "it was idle for idle_timeout");
}

void fleets_tick(struct keeper *k)
{
	double now = clock_coarse();
	struct fleet *f, *next;
	struct instance *i, *next_instance;

	TAILQ_FOREACH_SAFE (f, &k->fleets, link, next) {
		uint64_t memory = 0;
		bool retired = f->retired;
		TAILQ_FOREACH_SAFE (i, &f->instances, link, next_instance) {
			memory += i->memory;
			bool last = TAILQ_NEXT(i, link) == NULL;
			instance_tick(i, now);
			if (last && retired)
				break; /* the fleet may have gone with it */
		}
		if (retired)
			continue;
		METRIC_SET(k->metrics, CHILD_MEMORY, memory, f->metrics_id);
		keep_spares(f);
	}
}
