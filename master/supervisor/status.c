/* status: what `margay status` shows, as JSON. */
#include <cjson/cJSON.h>
#include <unistd.h>

#include "common/clock.h"
#include "master/supervisor/children.h"
#include "master/supervisor/upgrade.h"

static void add_number(cJSON *object, const char *key, double value)
{
	cJSON_AddNumberToObject(object, key, value);
}

static double slot_value(const struct child *c, enum metric_id id)
{
	if (c->metrics_slot < 0)
		return 0;
	return (double)metrics_slot_value(
	    c->supervisor->metrics, c->metrics_slot, id, (struct metric_at){0});
}

static double slot_requests(const struct child *c)
{
	const struct config *config = c->generation->config;
	struct metrics *m = c->supervisor->metrics;
	double sum = 0;

	for (size_t route = 0; c->metrics_slot >= 0 && route <= config->route_count; route++) {
		unsigned id = route == 0 ? 0 : metrics_route_id(m, config->routes[route - 1].path);
		for (unsigned method = 0; method < METRIC_METHOD_COUNT; method++) {
			for (unsigned how = 0; how < METRIC_OUTCOME_COUNT; how++)
				sum += (double)metrics_slot_value(m, c->metrics_slot, M_REQUESTS,
				    (struct metric_at){id, method, how});
		}
	}
	return sum;
}

static double stdio_children(const struct supervisor *s)
{
	const struct config *config = s->current ? s->current->config : NULL;
	double sum = 0;

	for (size_t i = 0; config && i < config->upstream_count; i++) {
		unsigned id = metrics_upstream_id(s->metrics, config->upstreams[i].name);
		sum += (double)metrics_sum(s->metrics, M_CHILDREN, (struct metric_at){id});
	}
	return sum;
}

/* Slots that it accepts from: its own without those that a sibling has, and those of siblings. */
static unsigned slots_of(const struct child *c)
{
	const struct generation *g = c->generation;
	unsigned count = 0;

	if (g->state != GENERATION_SERVING || c->state != CHILD_ACCEPTING)
		return 0;
	for (unsigned slot = 0; slot < LISTENER_SLOTS; slot++) {
		bool own = slot % g->config->workers == c->number;
		count += g->adopter[slot] == (int)c->number || (own && g->adopter[slot] < 0);
	}
	return count;
}

static unsigned adopted_slots(const struct generation *g)
{
	unsigned count = 0;

	for (unsigned slot = 0; slot < LISTENER_SLOTS; slot++)
		count += g->adopter[slot] >= 0;
	return count;
}

static unsigned workers_in(const struct generation *g, enum child_state state)
{
	const struct child *c;
	unsigned count = 0;

	TAILQ_FOREACH (c, &g->workers, link)
		count += c->state == state;
	return count;
}

static cJSON *generation_report(const struct generation *g)
{
	static const char *const names[] = {[GENERATION_STARTING] = "starting",
	    [GENERATION_SERVING] = "serving",
	    [GENERATION_DRAINING] = "draining"};
	struct ev_loop *loop = g->supervisor->loop;
	cJSON *object = cJSON_CreateObject();
	const struct child *c;
	double connections = 0;

	TAILQ_FOREACH (c, &g->workers, link)
		connections += slot_value(c, M_CONNECTIONS_OPEN);
	add_number(object, "number", g->number);
	cJSON_AddStringToObject(object, "state", names[g->state]);
	add_number(object, "age_seconds", g->begun > 0 ? clock_coarse() - g->begun : 0);
	cJSON_AddStringToObject(object, "config_sha256", g->sha256);
	add_number(object, "connections", connections);
	add_number(object, "slots_adopted", adopted_slots(g));
	/* Until it is READY, or until it is cut off. */
	if (ev_is_active(&g->deadline))
		add_number(object, "deadline_seconds",
		    ev_timer_remaining(loop, (ev_timer *)(uintptr_t)&g->deadline));
	return object;
}

void status_measure(const struct supervisor *s)
{
	const struct generation *g;
	unsigned count = 0, accepting = 0, draining = 0, backing_off = 0;

	TAILQ_FOREACH (g, &s->generations, link) {
		count++;
		accepting += workers_in(g, CHILD_ACCEPTING);
		draining += workers_in(g, CHILD_DRAINING);
		backing_off += g->state == GENERATION_SERVING ? workers_in(g, CHILD_BACKOFF) : 0;
	}
	METRIC_SET(s->cells, GENERATIONS, count, 0);
	METRIC_SET(s->cells, WORKERS_ACCEPTING, accepting, 0);
	METRIC_SET(s->cells, WORKERS_DRAINING, draining, 0);
	METRIC_SET(s->cells, WORKERS_BACKOFF, backing_off, 0);
	METRIC_SET(s->cells, SLOTS_ADOPTED, s->current ? adopted_slots(s->current) : 0, 0);
}

static cJSON *child_report(const struct child *c)
{
	cJSON *object = cJSON_CreateObject();
	double up = c->pid > 0 ? clock_coarse() - c->started : 0;

	if (c->role == ROLE_WORKER) {
		add_number(object, "number", c->number);
		add_number(object, "generation", c->generation->number);
		add_number(object, "slots", slots_of(c));
		cJSON_AddBoolToObject(object, "silent", c->silent);
	}
	add_number(object, "pid", c->pid);
	cJSON_AddStringToObject(
	    object, "state", c->replacing ? "replacing" : child_state_name(c->state));
	add_number(object, "uptime_seconds", up);
	add_number(object, "restarts", c->restarts);
	if (c->role == ROLE_WORKER) {
		add_number(object, "connections", slot_value(c, M_CONNECTIONS_OPEN));
		add_number(object, "requests", slot_requests(c));
	} else if (c->role == ROLE_BROKER) {
		add_number(object, "sessions", slot_value(c, M_SESSIONS_ACTIVE));
	} else {
		add_number(object, "children", stdio_children(c->supervisor));
		cJSON_AddStringToObject(object, "limits",
		    slot_value(c, M_CHILD_CGROUPS) > 0
			? "control groups"
			: "rlimits only: no delegated control group");
	}
	return object;
}

static cJSON *listen_report(const struct generation *g)
{
	cJSON *rows = cJSON_CreateArray();

	for (size_t i = 0; i < g->listeners.count; i++) {
		const struct listener *l = &g->listeners.rows[i];
		cJSON *row = cJSON_CreateObject();
		cJSON_AddStringToObject(row, "address", l->config->address.text);
		cJSON_AddBoolToObject(row, "admin", l->admin);
		cJSON_AddBoolToObject(row, "tls", l->config->tls.on);
		add_number(row, "slots", LISTENER_SLOTS);
		cJSON_AddItemToArray(rows, row);
	}
	return rows;
}

static cJSON *reload_report(const struct reload *r)
{
	cJSON *object = cJSON_CreateObject();

	cJSON_AddBoolToObject(object, "ok", r->ok);
	cJSON_AddStringToObject(object, "message", r->message);
	add_number(object, "time", r->time);
	cJSON_AddItemToObject(
	    object, "errors", r->errors ? cJSON_Duplicate(r->errors, true) : cJSON_CreateArray());
	return object;
}

static cJSON *sessions_report(const struct supervisor *s)
{
	cJSON *object = cJSON_CreateObject();
	static const struct metric_at nowhere = {0};

	add_number(object, "active", (double)metrics_sum(s->metrics, M_SESSIONS_ACTIVE, nowhere));
	add_number(object, "created", (double)metrics_sum(s->metrics, M_SESSIONS_CREATED, nowhere));
	return object;
}

struct cJSON *status_report(const struct supervisor *s)
{
	const struct generation *g = s->current;
	cJSON *object = cJSON_CreateObject();
	cJSON *config = cJSON_AddObjectToObject(object, "config");
	cJSON *generations = cJSON_AddArrayToObject(object, "generations");
	cJSON *workers = cJSON_AddArrayToObject(object, "workers");
	const struct generation *each;
	const struct child *c;

	cJSON_AddBoolToObject(object, "ok", true);
	cJSON_AddStringToObject(object, "version", MARGAY_VERSION);
	add_number(object, "pid", getpid());
	add_number(object, "uptime_seconds", ev_now(s->loop) - s->started);
	add_number(object, "generation", g ? g->number : 0);
	cJSON_AddStringToObject(config, "file", source_name(&s->source));
	cJSON_AddStringToObject(config, "sha256", g ? g->sha256 : "");
	cJSON_AddItemToObject(object, "last_reload", reload_report(&s->reload));
	if (s->upgrade)
		add_number(object, "other_master", s->upgrade->pid);
	if (g)
		cJSON_AddItemToObject(object, "listen", listen_report(g));
	TAILQ_FOREACH (each, &s->generations, link) {
		cJSON_AddItemToArray(generations, generation_report(each));
		TAILQ_FOREACH (c, &each->workers, link)
			cJSON_AddItemToArray(workers, child_report(c));
	}
	cJSON_AddItemToObject(object, "broker", child_report(s->broker));
	cJSON_AddItemToObject(object, "keeper", child_report(s->keeper));
	cJSON_AddItemToObject(object, "sessions", sessions_report(s));
	return object;
}

static cJSON *http_report(const struct supervisor *s, const struct config_upstream *u)
{
	static const struct {
		const char *key;
		enum metric_id id;
	} numbers[] = {
	    {"requests", M_UPSTREAM_REQUESTS}, {"connections", M_UPSTREAM_CONNECTIONS_OPEN}};
	unsigned id = metrics_upstream_id(s->metrics, u->name);
	cJSON *row = cJSON_CreateObject();
	double errors = 0;

	cJSON_AddStringToObject(row, "name", u->name);
	cJSON_AddStringToObject(row, "kind", "http");
	cJSON_AddStringToObject(row, "url", u->url);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		add_number(row, numbers[i].key,
		    (double)metrics_sum(s->metrics, numbers[i].id, (struct metric_at){id}));
	for (unsigned reason = 0; reason < METRIC_REASON_COUNT; reason++)
		errors += (double)metrics_sum(
		    s->metrics, M_UPSTREAM_ERRORS, (struct metric_at){id, reason});
	add_number(row, "errors", errors);
	return row;
}

struct cJSON *status_upstreams(const struct supervisor *s, struct cJSON *children)
{
	const struct config *config = s->current ? s->current->config : NULL;
	cJSON *object = cJSON_CreateObject();
	cJSON *rows = cJSON_DetachItemFromObject(children, "upstreams");

	if (!cJSON_IsArray(rows)) {
		cJSON_Delete(rows);
		rows = cJSON_CreateArray();
	}
	cJSON_AddBoolToObject(object, "ok", children != NULL);
	if (!children)
		cJSON_AddStringToObject(object, "message", "the keeper does not answer");
	for (size_t i = 0; config && i < config->upstream_count; i++) {
		if (config->upstreams[i].kind == CONFIG_HTTP)
			cJSON_AddItemToArray(rows, http_report(s, &config->upstreams[i]));
	}
	cJSON_AddItemToObject(object, "upstreams", rows);
	cJSON_Delete(children);
	return object;
}
