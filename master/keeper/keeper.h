/*
 * keeper: the process that starts, supervises and ends the programs behind stdio upstreams.
 *
 * It alone forks and execs servers and owns their pipes. Any worker reaches any child through it;
 * ids on a child's pipe are its own. It never touches HTTP. Whatever must outlive it is in the
 * master's vault: pipes and a page of state for each child.
 *
 *   keeper.c    the loop, the master's orders, taking over what was kept
 *   fleet.c     the children of one upstream: how many, when to try again
 *   instance.c  one child; calls.c, pipes.c, handshake.c, adopt.c are its
 *   page.c      its state, which the master keeps
 *   spawn.c     from fork to exec            orphans.c  the dead, and what they left
 *   peer.c      a worker's connection        link.c     a session and its child
 *   intake.c    a long message of a worker's
 *   send.c      a message to a child         deliver.c  a line of a child's
 *   stateless.c  servers of 2026-07-28, which have no sessions
 *   noise.c     what is for nobody           report.c   what operators see
 *   leave.c      making room for another      inherit.c  going on as that other
 *   cgroup.c    limits of the system, where they may be set
 */
#ifndef MARGAY_MASTER_KEEPER_KEEPER_H
#define MARGAY_MASTER_KEEPER_KEEPER_H

#include <ev.h>
#include <stdbool.h>
#include <bsd/sys/queue.h>

/* Out of memory must refuse one request, not end the keeper. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "common/backoff.h"
#include "common/envelope.h"
#include "common/ipc/stream.h"
#include "common/role.h"
#include "common/turn.h"
#include "master/keeper/cgroup.h"

enum {
	KEEPER_PEERS = 64, /* workers at a time */
	KEEPER_SCRATCH = 65536,
	KEEPER_JSON_DEPTH = 256,
	KEEPER_MARK = 64,
	KEEPER_SPAWN_BUDGET = 8,               /* forks per turn of the loop */
	KEEPER_WAITERS_MAX = 1000,             /* requests that wait for one child or fleet */
	KEEPER_WAITING_MAX = 64 * 1024 * 1024, /* bytes of all that wait */
	KEEPER_INTAKE_MAX = 4 * STREAM_MESSAGE_MAX,
};

struct fleet;
struct instance;
struct peer;
struct remnant;
struct waiter;

TAILQ_HEAD(fleet_list, fleet);
TAILQ_HEAD(instance_list, instance);
TAILQ_HEAD(waiter_list, waiter);
TAILQ_HEAD(remnant_list, remnant);

/* A parsed configuration and how many fleets go by it. */
struct definitions {
	const struct config *config;
	bool ours; /* to be freed with the last fleet */
	unsigned users;
};

struct keeper {
	const struct role_boot *boot;
	struct ev_loop *loop;
	struct log *log;
	struct metrics_slot *metrics;
	struct definitions *definitions; /* in force */
	struct fleet_list fleets;        /* and those that end because their definition changed */
	struct instance *by_id;
	struct peer *peers[KEEPER_PEERS];
	size_t waiting;            /* bytes of waiters */
	struct waiter_list intake; /* other waiters: intake.h */
	unsigned intake_count;
	size_t intake_bytes;
	struct {
		struct waiter *waiter; /* that is taken, and what its scan has found; NULL: none */
		int error;
		struct envelope_fault fault;
	} looked;
	unsigned spawns;            /* in this turn of the loop */
	struct instance_list dirty; /* have bytes for their child */
	struct instance_list dead;  /* freed when the loop turns */
	LIST_HEAD(peer_dead, peer) dead_peers;
	struct remnant_list remnants;
	uint64_t last_id, last_number;
	char run[17];  /* makes marks of other runs differ */
	uint8_t *rows; /* of the children file: taken or not */
	size_t row_count;
	uint64_t *forgets; /* what the master does not know yet to let go of */
	size_t forget_count, forget_capacity;
	bool stopping, orphaned;
	bool retiring; /* another is to follow: estate.h */
	ev_io listener, channel, signals;
	ev_timer pause, tick, orphan, leave;
	ev_prepare prepare;
	struct turn turn;
	uint64_t memory_id; /* of the child whose memory is looked at next */
	struct cgroup cgroup;
	struct envelope envelope;
	char scratch[KEEPER_SCRATCH];
};

/* Stop all children and, when they are gone, leave the loop. */
void keeper_stop(struct keeper *k);
/* Something ended: was it the last? */
void keeper_check_stopped(struct keeper *k);
/* The master may let go of what it holds under this key; told again until it was heard. */
void keeper_forget(struct keeper *k, uint64_t key);
/* Send to the master; false when its queue is full: try again later. */
bool keeper_tell_master(
    struct keeper *k, uint16_t type, uint64_t key, const int *fds, unsigned count) MUST_CHECK;

/* orphans.c */
int orphans_open(struct keeper *k) MUST_CHECK;
void orphans_close(struct keeper *k);
/* The leader of this group is gone: end what it left, also what has left its group. */
void orphans_sweep(struct keeper *k, pid_t group, const char *mark);

/* report.c */
/* The report as JSON text in a memfd, or -errno. */
int report_upstreams(struct keeper *k);
int report_outcome(bool ok, const char *message);

#endif
