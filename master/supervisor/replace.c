/*
 * replace: another process in the place of a broker or keeper that runs. See children.h.
 *
 * Asked to (CHANNEL_RETIRE), the old one leaves its connections and all that is under way to the
 * new one (common/handover.h) and ends; nothing is lost, so nothing counts as a crash. Of what it
 * left the new one has the only copy: should that one die, its peers notice, as they must.
 */
#include "common/clock.h"
#include "common/handover.h"
#include "common/ipc/channel.h"
#include "master/supervisor/children.h"

static const double patience = 8; /* seconds to make room: less than the watchdog's */

bool child_replace(struct child *c)
{
	struct supervisor *s = c->supervisor;

	if (c->replacing)
		return true;
	if (s->state != SUPERVISOR_RUNNING || c->state != CHILD_ACCEPTING || c->expected)
		return false;
	c->replacing = true;
	ev_timer_stop(s->loop, &c->restart);
	ev_timer_set(&c->restart, patience, 0);
	ev_timer_start(s->loop, &c->restart);
	child_tell(c, CHANNEL_RETIRE, NULL, 0, -1);
	return true;
}

void children_replace(struct supervisor *s)
{
	struct child *const both[] = {s->broker, s->keeper};
	char name[32];

	for (size_t i = 0; i < sizeof(both) / sizeof(both[0]); i++) {
		/* One that is not there yet will be of this binary. */
		if (both[i]->state != CHILD_ACCEPTING || child_replace(both[i]))
			continue;
		child_name(both[i], name);
		LOG(s->log, LOG_LEVEL_WARN, "is not replaced by one of this binary",
		    LOG_STR("child", name));
	}
}

bool children_are_replaced(const struct supervisor *s)
{
	return s->broker->replacing || s->keeper->replacing;
}

static void settle(struct child *c, bool ok, const char *how)
{
	struct supervisor *s = c->supervisor;
	struct generation *g, *next;

	if (!c->replacing)
		return;
	c->replacing = false;
	if (s->control)
		control_replaced(s->control, c, ok, how);
	if (s->state != SUPERVISOR_STOPPING)
		return;
	/* The last one may have waited for this. */
	TAILQ_FOREACH_SAFE (g, &s->generations, link, next)
		generation_update(g);
}

void child_replace_late(struct child *c)
{
	char name[32];

	child_name(c, name);
	LOG(c->supervisor->log, LOG_LEVEL_WARN, "does not make room", LOG_STR("child", name),
	    LOG_INT("child_pid", c->pid));
	settle(c, false, "it has not made room yet; it goes on trying");
}

void child_leaves(struct child *c, uint64_t key, const int *fds, unsigned count)
{
	if (vault_put(&c->left, key, fds, count))
		LOG_TEXT(c->supervisor->log, LOG_LEVEL_ERROR,
		    "out of memory: what a process leaves is lost");
}

void child_replaced(struct child *c)
{
	settle(c, true, "replaced");
}

bool child_made_room(struct child *c)
{
	struct supervisor *s = c->supervisor;
	char name[32];

	if (handover_complete(&c->left) && !c->expected && !TAILQ_EMPTY(&s->generations)) {
		child_name(c, name);
		LOG(s->log, LOG_LEVEL_INFO, "replaced", LOG_STR("child", name));
		child_spawn(c);
		return true;
	}
	vault_close(&c->left);
	settle(c, false, "it ended by itself; another is started");
	return false;
}

bool child_replace_needs(const struct generation *g)
{
	const struct supervisor *s = g->supervisor;

	return (s->broker->replacing || s->keeper->replacing) &&
	       TAILQ_FIRST(&s->generations) == TAILQ_LAST(&s->generations, generation_list);
}
