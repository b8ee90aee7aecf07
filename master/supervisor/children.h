/*
 * children: the processes that the master forked, from birth to reaping and restart.
 *
 * A child object stands for a place (worker 2 of generation 5, the broker) and outlives the
 * processes that fill it. A place whose process ends unexpectedly is filled again: at once the
 * first time, then with BACKOFF_PROCESS.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_CHILDREN_H
#define MARGAY_MASTER_SUPERVISOR_CHILDREN_H

#include <sys/types.h>

#include "common/ipc/state.h"
#include "master/supervisor/hangup.h"
#include "master/supervisor/supervisor.h"

enum child_state {
	CHILD_STARTING,  /* forked, not READY */
	CHILD_READY,     /* waits for the rest of its generation */
	CHILD_ACCEPTING, /* for broker and keeper: serving */
	CHILD_DRAINING,
	CHILD_BACKOFF, /* no process; one will be started */
};

struct child {
	TAILQ_ENTRY(child) link; /* generation's workers */
	struct supervisor *supervisor;
	struct generation *generation; /* NULL for broker and keeper */
	enum role role;
	unsigned number;
	enum child_state state;
	pid_t pid;   /* 0: none */
	int channel; /* -1: none */
	int pidfd;   /* -1: none */
	ev_io io;
	ev_child exit; /* of those that we forked */
	ev_io end;     /* of those that another master forked: how they end is not known */
	ev_timer restart;
	struct backoff backoff;
	int metrics_slot;
	double started; /* clock_coarse() */
	unsigned restarts;
	bool expected; /* its end was asked for */
	bool silent;   /* its loop does not turn (watchdog.c) */
	struct hangup hangup;
	double aborted;    /* when the watchdog did: clock_coarse(), 0: not */
	bool replacing;    /* asked to make room for another; replace.c */
	struct vault left; /* what it has for that one (common/handover.h) */
};

/* A place without a process. NULL when memory is short. */
struct child *child_create(
    struct supervisor *s, enum role role, struct generation *g, unsigned number);
/* The place must have no process. */
void child_free(struct child *c);
/* Fork. A failure counts as a crash: the place backs off and tries again. */
void child_spawn(struct child *c);
/* Send a message of channel.h. A child that can't be told is left to notice by its channel's end.
 */
void child_tell(struct child *c, uint16_t type, const void *payload, size_t n, int fd);
void child_kill(struct child *c);
/* Whether the descriptors are the master's end of a channel, and the pidfd of that process. */
bool child_is(int channel, int pidfd, pid_t pid);
/* Fill the place with a process of another master's; the descriptors are taken. */
void child_inherit(struct child *c, const struct process_record *state, int channel, int pidfd);
/* Another master takes over: stop listening to it and caring for it, but for its end. */
void child_retire(struct child *c);
/* It did not: go on. Broker and keeper are started again if they ended meanwhile. */
void child_resume(struct child *c);
/* It is another master's for good: forget it, without any harm to it. */
void child_disown(struct child *c);
const char *child_state_name(enum child_state state);
/* "worker 2", "broker" or "keeper". */
void child_name(const struct child *c, char out[32]);

/* replace.c: another process in the place of a broker or keeper that runs, without any request
 * noticing. */
/* Ask it to make room. control_replaced says how it went. False when it can't be asked now. */
bool child_replace(struct child *c) MUST_CHECK;
/* Both, because they are of another binary. */
void children_replace(struct supervisor *s);
/* What one of them leaves may be on its way. */
bool children_are_replaced(const struct supervisor *s);
/* It is not done in time; what it leaves (the descriptors are taken); it has a new process. */
void child_replace_late(struct child *c);
void child_leaves(struct child *c, uint64_t key, const int *fds, unsigned count);
void child_replaced(struct child *c);
/* Its process ended. True when it has made room: it was started again. */
bool child_made_room(struct child *c);
/* Whether the next one still needs the last configuration to start by. */
bool child_replace_needs(const struct generation *g);

/* process.c: in the new process; never returns. */
NORETURN void process_run(struct child *c, int channel);

#endif
