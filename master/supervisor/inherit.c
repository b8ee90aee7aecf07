/* inherit: the processes and generations of another master, which go on under this one. See
 * inventory.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/state.h"
#include "master/supervisor/children.h"
#include "master/supervisor/inventory.h"
#include "master/supervisor/upgrade.h"

static int take_state(struct supervisor *s)
{
	const struct manifest_record *r = manifest_find(&s->heritage.manifest, MANIFEST_STATE, 0);
	const struct master_record *state = r ? (const void *)r->body : NULL;

	if (!r || r->length != sizeof(*state))
		return -EINVAL;
	if (state->last_generation > s->last_generation)
		s->last_generation = state->last_generation;
	s->keeper_epoch = state->keeper_epoch;
	s->started = state->started;
	s->reload.ok = state->reload_ok;
	s->reload.time = state->reload_time;
	memcpy(s->reload.message, state->reload_message, sizeof(s->reload.message));
	s->reload.message[sizeof(s->reload.message) - 1] = '\0';
	return 0;
}

static void take_children(struct supervisor *s)
{
	struct manifest *m = &s->heritage.manifest;

	for (size_t i = 0; i < m->count; i++) {
		struct manifest_record *r = &m->rows[i];
		if (r->kind != MANIFEST_CHILD)
			continue;
		keeping_keep(s, r->key, r->fds, r->count);
		manifest_steal_all(r);
	}
}

/* The bytes that a generation serves by. */
static int read_config(int fd, struct buffer *bytes)
{
	char block[16384];
	ssize_t n;

	for (off_t at = 0; (n = pread(fd, block, sizeof(block), at)) > 0; at += n) {
		int error = buffer_append(bytes, block, (size_t)n, CONFIG_SEALED_MAX);
		if (error)
			return error;
	}
	return n < 0 ? -errno : 0;
}

struct generation *generation_restore(struct supervisor *s, int config_fd)
{
	struct config_defaults defaults = s->source.defaults;
	struct config_errors errors = {0};
	struct buffer bytes = {0};
	struct config *config = NULL;
	struct generation *g = NULL;

	/* They passed their check before. */
	defaults.checked = true;
	int error = read_config(config_fd, &bytes);
	if (!error)
		error = config_parse(buffer_span(&bytes), &defaults, &config, &errors);
	if (!error)
		g = generation_create(s, config, buffer_span(&bytes), &errors);
	config_errors_free(&errors);
	buffer_release(&bytes);
	return g;
}

static struct child *find_worker(const struct generation *g, unsigned number)
{
	struct child *c;

	TAILQ_FOREACH (c, &g->workers, link) {
		if (c->number == number)
			return c;
	}
	return NULL;
}

static int take_generation(
    struct supervisor *s, const struct manifest_record *r, char *why, size_t size)
{
	const struct generation_record *state = (const void *)r->body;
	struct generation *g = NULL;

	snprintf(why, size, "generation %u can't be read", (unsigned)r->key);
	if (r->length == sizeof(*state) && r->count == 1 && state->number == (unsigned)r->key)
		g = generation_restore(s, r->fds[0]);
	if (!g)
		return -EINVAL;
	g->number = state->number;
	g->begun = state->begun;
	g->drain_begun = state->drain_begun;
	for (unsigned i = 0; i < LISTENER_SLOTS; i++)
		g->adopter[i] = state->adopter[i];
	generation_inherit(g, (enum generation_state)state->state);
	return 0;
}

static struct child *place_of(struct supervisor *s, const struct process_record *state)
{
	struct generation *g;

	if (state->role == ROLE_BROKER)
		return s->broker;
	if (state->role == ROLE_KEEPER)
		return s->keeper;
	TAILQ_FOREACH (g, &s->generations, link) {
		if (g->number == state->generation)
			return find_worker(g, state->number);
	}
	return NULL;
}

static int take_process(struct supervisor *s, struct manifest_record *r, char *why, size_t size)
{
	const struct process_record *state = (const void *)r->body;
	struct child *c = r->length == sizeof(*state) && r->count == 2 ? place_of(s, state) : NULL;

	if (!c || c->pid > 0 || !child_is(r->fds[0], r->fds[1], state->pid)) {
		snprintf(why, size, "process %llu is not what it is said to be",
		    (unsigned long long)r->key);
		return -EINVAL;
	}
	int channel = manifest_steal(r, 0);
	child_inherit(c, state, channel, manifest_steal(r, 1));
	return 0;
}

/* In the order in which they were started: the oldest first, as everywhere. */
static struct manifest_record *next_generation(struct manifest *m, uint64_t after)
{
	struct manifest_record *best = NULL;

	for (size_t i = 0; i < m->count; i++) {
		struct manifest_record *r = &m->rows[i];
		if (r->kind == MANIFEST_GENERATION && r->key > after &&
		    (!best || r->key < best->key))
			best = r;
	}
	return best;
}

static int take_generations(struct supervisor *s, char *why, size_t size)
{
	struct manifest *m = &s->heritage.manifest;
	struct manifest_record *r;
	uint64_t last = 0;
	int error = 0;

	while (!error && (r = next_generation(m, last))) {
		last = r->key;
		error = take_generation(s, r, why, size);
	}
	for (size_t i = 0; i < m->count && !error; i++) {
		if (m->rows[i].kind == MANIFEST_PROCESS)
			error = take_process(s, &m->rows[i], why, size);
	}
	return error;
}

int inherit_all(struct supervisor *s, char *why, size_t size)
{
	char name[ADDRESS_TEXT_MAX];

	snprintf(why, size, "what the other master says of itself");
	int error = take_state(s);
	if (!error)
		take_children(s);
	if (!error)
		error = take_generations(s, why, size);
	/*
	 * Those of a generation that ended while we started are gone for a good reason. What one
	 * has bound that was starting when its master died waits for a reload (inherit_settle).
	 */
	unsigned unused = error || !s->upgrade ? 0 : listeners_close_unused(s->listeners, name);
	if (s->upgrade && unused > s->upgrade->dropped) {
		snprintf(why, size, "the listeners of %s belong to no generation", name);
		error = -EINVAL;
	}
	manifest_close(&s->heritage.manifest);
	manifest_unread(&s->manifest, MANIFEST_HOLDER);
	return error;
}

void inherit_settle(struct supervisor *s)
{
	char name[ADDRESS_TEXT_MAX];

	if (!reload_busy(s))
		listeners_close_unused(s->listeners, name);
}

void inherit_give_up(struct supervisor *s, const char *why)
{
	struct generation *g;
	struct child *c;

	TAILQ_FOREACH (g, &s->generations, link) {
		TAILQ_FOREACH (c, &g->workers, link) {
			if (g != s->reload.next)
				child_disown(c);
		}
	}
	child_disown(s->broker);
	child_disown(s->keeper);
	supervisor_fail(s, why);
}
