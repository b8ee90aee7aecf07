/*
 * generation: one configuration and the workers that serve by it, as a whole. See supervisor.h.
 *
 * It lives from the start of its workers until the last of them has ended; it holds the listeners
 * of its configuration so long.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_GENERATION_H
#define MARGAY_MASTER_SUPERVISOR_GENERATION_H

#include <ev.h>
#include <stdbool.h>
#include <bsd/sys/queue.h>

#include "common/attributes.h"
#include "common/config/config.h"
#include "common/listener.h"

struct child;
struct supervisor;

TAILQ_HEAD(child_list, child);

/* A crash loop is this many in a short time (probation.c). */
enum { GENERATION_CRASHES = 6 };

enum generation_state { GENERATION_STARTING, GENERATION_SERVING, GENERATION_DRAINING };

/* One configuration and the workers that serve by it. */
struct generation {
	TAILQ_ENTRY(generation) link;
	struct supervisor *supervisor;
	unsigned number;
	enum generation_state state;
	struct config *config;
	int config_fd;                   /* memfd of the sealed bytes (config_seal); -1: none */
	char sha256[CONFIG_SHA256_TEXT]; /* of the sealed bytes */
	struct listener_set listeners;
	struct child_list workers;
	int fallback_fd; /* the configuration to go back to; -1: none */
	double begun;    /* serving: clock_coarse() */
	double drain_begun;
	bool paced;                         /* READY, and waits for an older one to end */
	double crashes[GENERATION_CRASHES]; /* the last ones: clock_coarse(), 0: none */
	int adopter[LISTENER_SLOTS]; /* number of the worker that stands in for a slot's own, or -1
				      */
	ev_timer deadline;           /* to be READY, or to have drained */
};

TAILQ_HEAD(generation_list, generation);

/* Takes `config`. Its workers are not started. NULL when addresses can't be bound, which `errors`
 * (the caller's in any case) names, or, without errors, when memory is short. */
struct generation *generation_create(
    struct supervisor *s, struct config *config, struct span bytes, struct config_errors *errors);
/* Fork its workers; all READY within ten seconds, or reload_failed. */
int generation_start(struct generation *g) MUST_CHECK;
/* One by the bytes in a memfd, which passed their check before. NULL: they can't be used. */
struct generation *generation_restore(struct supervisor *s, int config_fd);
/* One of another master's: first its state, then, when its processes are there, it goes on. */
void generation_inherit(struct generation *g, enum generation_state state);
void generation_resume(struct generation *g);
/* All its workers are READY: let them accept, drain all others. */
void generation_commit(struct generation *g);
void generation_abort(struct generation *g);
void generation_drain(struct generation *g);
/* A worker's state changed: deal the slots anew, and see whether the generation is ready or over.
 */
void generation_update(struct generation *g);
void generation_free(struct generation *g);
/* Seconds to wait before another generation may drain, so that none is cut off in its first moment:
 * at most three live. */
double generation_pace(const struct supervisor *s);

/* probation.c */
/* What to go back to should the new generation crash: `old`'s configuration, if that was good. */
void generation_keep_fallback(struct generation *g, const struct generation *old);
/* A worker crashed. When that was once too often, the last good configuration comes back. */
void generation_crashed(struct generation *g);

#endif
