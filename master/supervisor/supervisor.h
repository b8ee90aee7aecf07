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
#include "master/supervisor/listeners.h"
#include "master/supervisor/notify.h"
#include "master/supervisor/source.h"
#include "master/supervisor/store.h"

struct child;
struct checker;
struct control;
struct upgrade;
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
	int config_fd;                   /* memfd of the file's bytes, for the keeper; -1: none */
	char sha256[CONFIG_SHA256_TEXT]; /* of the file's bytes */
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

enum { SUPERVISOR_SIGNALS = 8 };

enum supervisor_state {
	SUPERVISOR_STARTING,
	SUPERVISOR_RUNNING,
	SUPERVISOR_STOPPING,
	SUPERVISOR_RETIRED, /* another master has taken over; it ends with its workers */
};

/* The reload under way and the last one's result. */
struct reload {
	struct checker *checker;
	struct generation *next; /* starting */
	bool again;              /* another was asked for meanwhile */
	bool ok;                 /* the last one */
	double time;             /* Unix time of the last one's end */
	struct cJSON *errors;    /* of the last one: array of objects */
	char message[256];
	char back[160]; /* why the one under way returns to an older configuration; empty: not */
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

/* generation.c */
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

/* reload.c */
/* Start one, or note that another is wanted. */
void reload_request(struct supervisor *s);
bool reload_busy(const struct supervisor *s);
/* Run the one that had to wait for something else, if any. */
void reload_deferred(struct supervisor *s);
void reload_ready(struct supervisor *s);
void reload_failed(struct supervisor *s, const char *why);
/* Start a generation from these bytes, which passed before; the result is told as `why`. */
void reload_back(struct supervisor *s, int config_fd, const char *why);
void reload_cancel(struct supervisor *s);

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

/* control.c */
/* `fd`: a listening socket to take over, or -1. */
int control_open(struct supervisor *s, int fd, struct control **out) MUST_CHECK;
int control_fd(const struct control *c);
/* Take no new client, or take them again. */
void control_pause(struct control *c, bool paused);
/* The upgrade or rollback is over: answer those who wait for it. */
void control_upgrade_done(struct control *c, bool ok, const char *message);
/* Another master serves: so it is over, and nobody else can be served here. */
void control_retire(struct control *c, bool ok, const char *message);
void control_close(struct control *c);
/* The reload is over: answer those who wait for it. */
void control_reload_done(struct control *c);
/* The keeper answered. The report is taken over; NULL: it is not JSON. */
void control_report(struct control *c, uint32_t request, struct cJSON *report);
/* A replacement is over, or takes too long to wait for it: answer those who do. */
void control_replaced(struct control *c, const struct child *child, bool ok, const char *how);

#endif
