/* lease: see lease.h. */
#include "worker/mcp/lease.h"

#include <stdlib.h>

#include "worker/mcp/aside.h"
#include "worker/mcp/exchange.h"

struct lease {
	LIST_ENTRY(lease) link; /* worker's leases */
	struct liaison_want want;
	bool used;
};

bool lease_is_needed(const struct upstream *u, unsigned capabilities)
{
	return u->config->kind == CONFIG_STDIO && capabilities != 0;
}

static bool is_same(const struct liaison_want *a, const struct liaison_want *b)
{
	return a->upstream == b->upstream && a->capabilities == b->capabilities &&
	       a->level == b->level;
}

struct lease *lease_take(struct worker *w, const struct liaison_want *want)
{
	struct lease *l;

	LIST_FOREACH (l, &w->leases, link) {
		if (l->used || !is_same(&l->want, want))
			continue;
		l->used = true;
		return l;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->want = *want;
	l->want.lease = ++w->last_lease;
	l->used = true;
	LIST_INSERT_HEAD(&w->leases, l, link);
	return l;
}

unsigned lease_number(const struct lease *lease)
{
	return lease->want.lease;
}

static void end_session(struct worker *w, const struct lease *l)
{
	struct session_id id = liaison_id(&l->want);
	struct session_call call = {0};
	int error = 0;
	const struct session_record *record = sessions_get(w->sessions, &id, &call, &error);

	/* One that is not cached any more is left to its idle time-out. */
	session_call_cancel(w->sessions, &call);
	if (!record)
		return;
	aside_end_session(w, record);
	sessions_end(w->sessions, &id, METRIC_END_CLIENT);
}

void lease_give_back(struct worker *w, struct lease *lease, bool clean)
{
	lease->used = false;
	if (!clean || w->draining)
		end_session(w, lease);
}

void leases_drain(struct worker *w)
{
	struct lease *l;

	LIST_FOREACH (l, &w->leases, link) {
		if (!l->used)
			end_session(w, l);
	}
}

void leases_close(struct worker *w)
{
	struct lease *l;

	while ((l = LIST_FIRST(&w->leases))) {
		LIST_REMOVE(l, link);
		free(l);
	}
}
