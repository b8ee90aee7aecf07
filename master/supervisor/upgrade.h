/*
 * upgrade: another binary takes over from this master, as a transaction.
 *
 *   old: exec -> tell all possessions -> wait for READY -> stop caring, tell what changed -> retire
 *   new: take possessions -> start workers -> all READY -> say so -> take processes over, commit
 *
 * Until the commit the old master does its work as ever; whatever fails before changes nothing.
 * Afterwards all processes but the workers that serve now are drained or replaced by the new
 * master, and the old one stays until the workers that it forked are gone: until then `margay
 * rollback` hands everything back, and it also takes over when the new master dies.
 *
 * Both sides are one binary; which one a process plays is its `role`. The frames on the socket
 * between them are those of manifest.h and these.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_UPGRADE_H
#define MARGAY_MASTER_SUPERVISOR_UPGRADE_H

#include <ev.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/attributes.h"

struct supervisor;

enum upgrade_frame {
	UPGRADE_LOCK = 96, /* old: the pid file's descriptor */
	UPGRADE_READY,     /* new: all workers are */
	UPGRADE_SERVING,   /* the one that takes over: it is the master, and nothing of the other's
			    * was touched before; payload: what it has to say; target: 1, all is well
			    */
	UPGRADE_ROLLBACK,  /* new: the manifest that follows is for you */
	UPGRADE_GOODBYE,   /* new: all of us stops */
};

enum upgrade_role { UPGRADE_OLD, UPGRADE_NEW };

enum upgrade_state {
	UPGRADE_STARTING, /* the new master is, and the old one works */
	UPGRADE_HANDING,  /* the old one works no more, the new one not yet */
	UPGRADE_DONE,     /* the new one works */
	UPGRADE_RETURNING /* rollback: the old one takes over */
};

struct upgrade {
	struct supervisor *supervisor;
	enum upgrade_role role;
	enum upgrade_state state;
	int socket;
	pid_t pid;        /* of the other master */
	bool ready;       /* old: the new one's workers are */
	unsigned dropped; /* listeners that ended while the new master started */
	ev_io io, writable;
	ev_child exit; /* old: of the new one */
	ev_timer deadline;
};

/* The variable by which a new master finds the socket. */
#define UPGRADE_VARIABLE "MARGAY_UPGRADE"

/* Old. Start one; NULL: the binary that runs. The result is told to control and log. 0, or -errno
 * with `why` filled. */
int upgrade_start(struct supervisor *s, const char *path, char *why, size_t size) MUST_CHECK;
/* Send the manifest to the other side as its socket takes it. */
void upgrade_tell(struct upgrade *u);
/* One is under way: nothing else may begin. */
bool upgrade_busy(const struct supervisor *s);
/* An upgrade that is not done fails now: something else has to happen. */
void upgrade_cancel(struct supervisor *s);
/* The other master died while this one was retired: this is the master again, by what the broker
 * holds, or else by what was known here. */
void upgrade_recover(struct supervisor *s);
/* The other one is the master now: tell whoever waits here, and stay for our own workers. */
void upgrade_leave(struct upgrade *u, bool ok, const char *text);
/* A worker of a retired master ended: was it the last? */
void upgrade_check_over(struct supervisor *s);
void upgrade_close(struct supervisor *s);
/* This master stops: so does the other one. */
void upgrade_stop(struct supervisor *s);
/* Stop caring for anything, and the opposite. */
void upgrade_retire(struct supervisor *s);
void upgrade_resume(struct supervisor *s);
/* Another master handed everything to this retired one, or died: it is the master again. 0, or
 * -errno with `why` filled. */
int upgrade_return(struct supervisor *s, char *why, size_t size) MUST_CHECK;
/* After a return: the workers of the old binary serve, or could not. */
void upgrade_returned(struct supervisor *s, bool ok, const char *message);

/* heir.c: new */
/* Take the possessions of the master that started us, waiting for them. 0, or -errno with `why`
 * filled. */
int heir_begin(struct supervisor *s, int socket, char *why, size_t size) MUST_CHECK;
/* All our workers are READY. True while the old master has to hear of it first; it is asked once
 * more when it has. */
bool heir_waits(struct supervisor *s);
/* 0, or -errno with `why` filled. */
int heir_rollback(struct supervisor *s, char *why, size_t size) MUST_CHECK;

/* takeover.c */
/* Get the possessions of a master that died, if its processes still serve. 0, also when there is
 * nothing; or -errno with `why` filled. */
int takeover_begin(struct supervisor *s, char *why, size_t size) MUST_CHECK;
/* Receive a manifest to its END, waiting. */
struct manifest;
int takeover_receive(int socket, struct manifest *m, double patience, int *lock) MUST_CHECK;

#endif
