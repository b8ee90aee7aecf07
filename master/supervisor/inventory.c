/* inventory: see inventory.h. */
#include "master/supervisor/inventory.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/ipc/state.h"
#include "master/supervisor/children.h"

static void note(struct supervisor *s, enum manifest_kind kind, uint64_t key, struct span body,
    const int *fds, unsigned count)
{
	if (manifest_put(&s->manifest, kind, key, body, fds, count))
		LOG(s->log, LOG_LEVEL_ERROR, "can't be written down for another master",
		    LOG_UINT("kind", kind), LOG_UINT("key", key));
}

static void note_one(struct supervisor *s, enum manifest_kind kind, int fd)
{
	if (fd >= 0)
		note(s, kind, 0, (struct span){"", 0}, &fd, 1);
}

static void note_state(struct supervisor *s)
{
	struct master_record state;

	memset(&state, 0, sizeof(state));
	state.pid = getpid();
	state.last_generation = s->last_generation;
	state.keeper_epoch = s->keeper_epoch;
	state.reload_ok = s->reload.ok;
	state.reload_time = s->reload.time;
	state.started = s->started;
	state.orphan_timeout = s->current->config->orphan_timeout;
	memcpy(state.reload_message, s->reload.message, sizeof(state.reload_message));
	note(s, MANIFEST_STATE, 0, (struct span){(const char *)&state, sizeof(state)}, NULL, 0);
}

static void note_listener(void *context, unsigned key, unsigned state,
    const struct sockaddr_storage *storage, const int *fds, unsigned count)
{
	char text[ADDRESS_TEXT_MAX];

	address_format(storage, text);
	note(context, MANIFEST_LISTENER, key | (uint64_t)state << MANIFEST_STATE_SHIFT,
	    span_of(text), fds, count);
}

static void note_process(struct supervisor *s, const struct child *c)
{
	struct process_record state;
	const int fds[] = {c->channel, c->pidfd};

	/* One that is not READY yet starts anew under another master. */
	if (c->pid <= 0 || c->channel < 0 || c->pidfd < 0 || c->state == CHILD_STARTING)
		return;
	memset(&state, 0, sizeof(state));
	state.role = c->role;
	state.state = c->state;
	state.number = c->number;
	state.generation = c->generation ? c->generation->number : 0;
	state.restarts = c->restarts;
	state.pid = c->pid;
	state.metrics_slot = c->metrics_slot;
	state.started = c->started;
	note(s, MANIFEST_PROCESS, (uint64_t)(uint32_t)c->pid,
	    (struct span){(const char *)&state, sizeof(state)}, fds, 2);
}

void inventory_process_gone(struct supervisor *s, const struct child *c)
{
	manifest_drop(&s->manifest, MANIFEST_PROCESS, (uint64_t)(uint32_t)c->pid);
}

static void note_generation(struct supervisor *s, const struct generation *g)
{
	struct generation_record state;
	const struct child *c;

	if (g->state == GENERATION_STARTING || g->config_fd < 0)
		return;
	memset(&state, 0, sizeof(state));
	state.number = g->number;
	state.state = g->state;
	state.begun = g->begun;
	state.drain_begun = g->drain_begun;
	for (unsigned i = 0; i < LISTENER_SLOTS; i++)
		state.adopter[i] = g->adopter[i];
	note(s, MANIFEST_GENERATION, g->number, (struct span){(const char *)&state, sizeof(state)},
	    &g->config_fd, 1);
	TAILQ_FOREACH (c, &g->workers, link)
		note_process(s, c);
}

static void write_all(struct supervisor *s)
{
	const struct generation *g;

	manifest_begin(&s->manifest);
	note_state(s);
	note(s, MANIFEST_SESSION_KEY, 0,
	    (struct span){(const char *)s->session_key, sizeof(s->session_key)}, NULL, 0);
	int metrics = metrics_fd(s->metrics);
	note_one(s, MANIFEST_METRICS, metrics);
	note(s, MANIFEST_JOURNAL, 0, (struct span){"", 0}, s->journal, JOURNAL_COUNT);
	note_one(s, MANIFEST_CHILDREN_FILE, s->children_file);
	note_one(s, MANIFEST_BROKER_SOCKET, s->broker_listener);
	note_one(s, MANIFEST_KEEPER_SOCKET, s->keeper_listener);
	note_one(s, MANIFEST_CONTROL_SOCKET, control_fd(s->control));
	listeners_each(s->listeners, note_listener, s);
	TAILQ_FOREACH (g, &s->generations, link)
		note_generation(s, g);
	note_process(s, s->broker);
	note_process(s, s->keeper);
	manifest_sweep(&s->manifest);
}

void inventory_broker_started(struct supervisor *s)
{
	manifest_unread(&s->manifest, MANIFEST_HOLDER);
}

void inventory_withdraw(struct supervisor *s)
{
	manifest_close(&s->manifest);
	manifest_unread(&s->manifest, MANIFEST_HOLDER);
	if (s->broker->channel >= 0 &&
	    manifest_tell(&s->manifest, MANIFEST_HOLDER, s->broker->channel))
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "the broker does not hear that the master ends");
}

void inventory_update(struct supervisor *s)
{
	/* Before a generation serves there is nothing worth taking over. */
	if (s->state == SUPERVISOR_STOPPING || !s->owns || !s->current || !s->control)
		return;
	write_all(s);
	store_update(s);
	if (s->broker->channel < 0 || s->broker->state != CHILD_ACCEPTING)
		return;
	/* What does not fit into its queue is told at the next heartbeat. */
	int error = manifest_tell(&s->manifest, MANIFEST_HOLDER, s->broker->channel);
	if (error && error != -EAGAIN && error != -EPIPE && error != -ECONNRESET)
		LOG(s->log, LOG_LEVEL_WARN, "the broker can't hold what the master owns",
		    LOG_ERRNO(-error));
}
