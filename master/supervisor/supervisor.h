/*
 * supervisor: the master process.
 *
 * Owns every descriptor that must outlive another process: listening sockets, the sockets of broker
 * and keeper, the metrics, the session journal, the pipes of stdio children, the pid file. Starts,
 * restarts and stops the other processes; serves the control socket. Never touches what comes from
 * the network.
 *
 *   supervisor.c  start, signals, stop       listeners.c   slots of each address
 *   children.c    spawn, reap, restart       checker.c     a configuration checked in a child
 *   generation.c  workers of one config      control.c     the control socket; status.c its reports
 *   reload.c      the reload transaction     process.c     what a forked child does first
 *   connect.c     `margay connect`, for the client on stdin
 *   notify.c      what the service manager is told
 *   activation.c  what it passed to us; store.c what it keeps for the next master
 *   keeping.c     what the keeper asks the master to hold, and what it is asked
 *   replace.c     a new broker or keeper in the place of the old
 *   estate.c      what outlives all others: made, or taken over, or closed; pid_file.c its lock
 *   inventory.c   all of it written down for another master; inherit.c the other direction
 *   takeover.c    from a master that died
 *   upgrade.c     to another binary, the old side of it; heir.c the new one
 *   watchdog.c    who lives but does not turn; hangup.c its clients
 *   probation.c   who crashes again and again
 */
#ifndef MARGAY_MASTER_SUPERVISOR_SUPERVISOR_H
#define MARGAY_MASTER_SUPERVISOR_SUPERVISOR_H

#include <ev.h>
#include <stdbool.h>
#include <bsd/sys/queue.h>

#include "common/backoff.h"
#include "common/control.h"
#include "common/ipc/manifest.h"
#include "common/role.h"
#include "master/supervisor/activation.h"
#include "master/supervisor/control.h"
#include "master/supervisor/generation.h"
#include "master/supervisor/listeners.h"
#include "master/supervisor/notify.h"
#include "master/supervisor/reload.h"
#include "master/supervisor/source.h"
#include "master/supervisor/store.h"

struct child;
struct upgrade;

enum { SUPERVISOR_SIGNALS = 8 };

enum supervisor_state {
	SUPERVISOR_STARTING,
	SUPERVISOR_RUNNING,
	SUPERVISOR_STOPPING,
	SUPERVISOR_RETIRED, /* another master has taken over; it ends with its workers */
};

/* Another master's possessions, to be taken over. */
struct heritage {
	struct manifest manifest;
	bool alive; /* its processes are among them, and go on */
};

struct supervisor {
	struct ev_loop *loop;
	enum supervisor_state state;
	bool owns; /* the runtime directory: this is the master */
	struct source source;
	char *runtime_dir;
	struct log *log;
	struct metrics *metrics;
	bool metrics_are_inherited; /* slots of other masters' processes are in it */
	int metrics_slot;
	struct metrics_slot *cells;
	int pid_file; /* -1: none */
	struct heritage heritage;
	struct manifest manifest; /* inventory.h */
	struct upgrade *upgrade;  /* under way, or to be rolled back; NULL: none */
	char *program;            /* path of this binary */
	struct listeners *listeners;
	struct control *control;
	int broker_listener;
	char broker_path[CONTROL_PATH_MAX];
	int journal[JOURNAL_COUNT];
	uint8_t session_key[SESSION_KEY_SIZE];
	struct child *broker;
	int keeper_listener;
	char keeper_path[CONTROL_PATH_MAX];
	int children_file; /* common/leftovers.h */
	struct vault vault;
	unsigned keeper_epoch; /* how many there were */
	struct child *keeper;
	struct generation_list generations; /* oldest first */
	struct generation *current;         /* serving; NULL until the first is READY */
	unsigned last_generation;
	struct reload reload;
	double started; /* Unix time */
	ev_signal signals[SUPERVISOR_SIGNALS];
	ev_timer stop_deadline, heartbeat;
	ev_prepare prepare;
	double watched, watchdog_rests_until; /* watchdog.c: monotonic seconds */
	struct notify notify;                 /* the service manager */
	struct activation activation;         /* until it is taken */
	struct store store;
	bool daemon;       /* --daemon */
	int daemon_report; /* pipe to the waiting parent of --daemon, or -1 */
	int exit_code;
};

/* `margay run`: argv[0] is the command's word. */
int supervisor_main(int argc, char **argv);
/* `margay connect`. */
int connect_main(int argc, char **argv);
/* Serve what a source says until told to end. An exit code. */
int supervisor_serve(const struct source_options *source, bool daemon);

/* supervisor.c */
void supervisor_stop(struct supervisor *s, bool at_once);
/* Another process is gone for good: is there anything left to wait for? */
void supervisor_check_stopped(struct supervisor *s);
void supervisor_started(struct supervisor *s);
void supervisor_fail(struct supervisor *s, const char *why);

/* watchdog.c */
/* Look at the heartbeats of all processes; to be called four times a second. */
void watchdog_check(struct supervisor *s);

/* status.c */
struct cJSON *status_report(const struct supervisor *s);
/* The same as metrics. */
void status_measure(const struct supervisor *s);
/* `children` is what the keeper told of stdio upstreams, taken over; NULL: it told nothing. */
struct cJSON *status_upstreams(const struct supervisor *s, struct cJSON *children);

/* keeping.c */
struct frame;
/* Hold these for the keeper. The descriptors are taken. */
void keeping_keep(struct supervisor *s, uint64_t key, const int *fds, unsigned count);
/* A message of the keeper's; the descriptors are taken. */
void keeping_message(
    struct supervisor *s, const struct frame *frame, const int *fds, unsigned count);
/* Ask the keeper (CHANNEL_ASK, CHANNEL_RESTART). `request` comes back with its report. */
void keeping_ask(struct supervisor *s, uint16_t type, uint32_t request, const char *upstream);

#endif
