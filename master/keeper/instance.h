/*
 * instance: one child of a stdio upstream, its process and all that is under way with it.
 *
 * An instance may outlive its process (restartable ones wait for the next request); it belongs to
 * one fleet and is freed when the loop turns. Its calls, links and waiters are its own.
 */
#ifndef MARGAY_MASTER_KEEPER_INSTANCE_H
#define MARGAY_MASTER_KEEPER_INSTANCE_H

#include "common/lines.h"
#include "common/scanning.h"
#include "common/vault.h"
#include "master/keeper/fleet.h"
#include "master/keeper/page.h"

enum instance_state {
	INSTANCE_SPARE,    /* runs, waits for a session */
	INSTANCE_STARTING, /* runs, has not answered initialize */
	INSTANCE_READY,
	INSTANCE_DOWN,     /* no process; the next request starts one */
	INSTANCE_STOPPING, /* on the stop ladder; `recycled`: only its process ends */
	INSTANCE_GONE,     /* freed when the loop turns */
};

enum { INSTANCE_PROBATION = 1 }; /* seconds after it is ready in which its end is a failed start */

enum call_kind {
	CALL_REQUEST,
	CALL_OPEN,      /* initialize of a client's session */
	CALL_ASK,       /* of the stateless era: belongs to no session */
	CALL_HANDSHAKE, /* initialize of our own: nobody waits for the answer */
	CALL_DISCOVER,  /* our own as well: of which era is it? */
	CALL_PING,
};

/* A request in flight on the child's pipe. */
struct call {
	UT_hash_handle hh;         /* instance's calls, by number; oldest first */
	TAILQ_ENTRY(call) by_peer; /* while `peer` is set */
	struct instance *instance;
	struct peer *peer; /* who waits; NULL: nobody any more */
	struct link *link; /* the session's; NULL unless it is a REQUEST */
	uint64_t number;   /* its id on the pipe */
	uint32_t request;
	enum call_kind kind;
	bool listens, wants_log; /* of ASK: as its method and params say */
	unsigned id_length, token_length;
	char text[]; /* the client's id, then its progress token: raw JSON */
};

struct instance {
	UT_hash_handle hh;           /* keeper's by_id */
	TAILQ_ENTRY(instance) link;  /* fleet's */
	TAILQ_ENTRY(instance) dirty; /* while is_dirty */
	TAILQ_ENTRY(instance) dead;
	struct keeper *keeper;
	struct fleet *fleet;
	uint64_t id;
	enum instance_state state;
	bool shared;    /* any session's */
	bool stateless; /* of all who have none, see stateless.h; then shared, too */
	bool pinged, refuses_initialize;
	bool bound; /* a session has it; else it goes with its opener */
	bool is_dirty, input_broken;
	bool recycled;
	bool kept; /* the master has the descriptors */
	bool ours; /* we forked it: its exit status is ours to take */
	struct peer *opener;
	pid_t pid;         /* 0: none */
	int pidfd;         /* of one that we took over, else -1 */
	struct page *page; /* lives in memory that the master holds */
	int page_fd;
	int in, out, err, report; /* -1: closed */
	ev_io in_io, out_io, err_io, report_io, pidfd_io;
	ev_timer timer; /* handshake, or the next step of the ladder */
	unsigned step;
	struct buffer input; /* for the child */
	struct lines output, errors;
	struct scanning *scanning; /* of the line that `output` holds */
	const char *taken;       /* of a batch there: where the last message that was given ends */
	unsigned drained;        /* reads of stdout since it ended */
	char how[80];            /* it ended; empty: it did not */
	struct buffer handshake; /* initialize as the child got it */
	struct buffer result;    /* raw result of it, of a shared child */
	struct call *calls;
	unsigned requests; /* of these with a session */
	struct link *links;
	struct waiter_list waiters;
	unsigned waiter_count;
	uint64_t paused_by;                  /* one bit per peer */
	struct peer *stalled_by;             /* cannot take more now */
	double started, ready_at, last_used; /* clock_coarse() */
	unsigned restarts;
	uint64_t memory; /* bytes */
	double noise_tokens, noise_at;
	unsigned noise_dropped;
	char last_noise[128];
};

/* A new one without a process. NULL when memory is short. */
struct instance *instance_create(struct fleet *f);
/* Start its process. False when that failed: the fleet knows why, and the instance is GONE or DOWN.
 */
bool instance_spawn(struct instance *i) MUST_CHECK;
/* Take over one that the keeper before us started. False when that is impossible: it is GONE.
 * `inherited`: what is under way with it was left as well and follows (estate.h). */
bool instance_adopt(struct keeper *k, const struct vault_entry *kept, bool inherited);
/* Give a running child its client's initialize. False when memory is short. */
bool instance_open(struct instance *i, struct peer *p, const struct frame *frame,
    const struct envelope *e) MUST_CHECK;
/* Initialize it ourselves: a shared one, or a restarted one. */
void instance_handshake(struct instance *i);
/* The child answered initialize. */
void instance_ready(struct instance *i);
/* Begin the stop ladder (or end at once what has no process); `why` is told to whoever waits. */
void instance_stop(struct instance *i, const char *why);
/* End its process; a restartable one stays, and the next request starts another. */
void instance_recycle(struct instance *i, const char *why);
/* It closed its stdout: it ends now, or is ended, for it can't answer any more. */
void instance_mute(struct instance *i);
/* Its process has ended; `how`: "exit code 1". What it said before is delivered first, in this turn
 * or in later ones. */
void instance_ended(struct instance *i, const char *how);
/* The start failed: say so to all that wait, and stop what is there of it. */
void instance_fail_start(struct instance *i, const char *why);
void instance_free(struct instance *i);
/* Have the master hold what the next keeper needs; try again when it could not be told. */
void instance_keep(struct instance *i);
/* Go on or stop reading its output, as those who get it can take more or not. */
void instance_update(struct instance *i);
/* Append pieces and a newline for the child. -EMSGSIZE: it does not read; -EPIPE: nor will it. */
int instance_write(struct instance *i, const struct span *pieces, unsigned count) MUST_CHECK;
void instance_flush(struct instance *i);
const char *instance_state_name(const struct instance *i);

/* It is ready, and has not ended while its last words are delivered. */
static inline bool instance_serves(const struct instance *i)
{
	return i->state == INSTANCE_READY && !i->how[0];
}

/* Between the files of an instance. */
struct instance *instance_add(struct fleet *f, uint64_t id);
void instance_count_process(struct instance *i, int by);
void pipes_watch(struct instance *i);
/* Read what its process said before it ended. */
void pipes_drain(struct instance *i);
/* Go on with part of a line that another keeper had read. 0 or -errno. */
int pipes_restore(struct instance *i, struct span part) MUST_CHECK;
/* The line that was held is delivered. */
void pipes_release(struct instance *i);
void pipes_close(struct instance *i);
void pipes_end_input(struct instance *i);
/* Until it is told what happened between fork and exec. */
void pipes_await_exec(struct instance *i, int report);
/* What happened between fork and exec, if it is told by now. True when it was a failure. */
bool pipes_take_report(struct instance *i, char *why, size_t size);
/* All of a child's calls fail, because of its end. */
void calls_fail(struct instance *i, const char *why);

/* Register a request; `id` and `token` are raw and copied. NULL when memory is short. */
struct call *call_create(struct instance *i, struct peer *p, struct link *link, uint32_t request,
    enum call_kind kind, struct span id, struct span token);
void call_free(struct call *call);
/* Fail it towards its worker, then free it. */
void call_fail(struct call *call, enum metric_reason reason, const char *why);

#endif
