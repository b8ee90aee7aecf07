/*
 * role: what the master hands to a process it forks, and the entry points of the processes.
 *
 * This is the only place where master/ and worker/ meet: the supervisor calls an entry by its role
 * and never includes the process' own headers. Everything in a boot is inherited over fork and
 * stays valid until exit.
 */
#ifndef MARGAY_COMMON_ROLE_H
#define MARGAY_COMMON_ROLE_H

#include <stdint.h>

#include "common/config/config.h"
#include "common/listener.h"
#include "common/log.h"
#include "common/metrics/metrics.h"
#include "common/vault.h"

enum role { ROLE_WORKER, ROLE_BROKER, ROLE_KEEPER };
enum { SESSION_KEY_SIZE = 32, JOURNAL_COUNT = 2 };

struct role_boot {
	enum role role;
	unsigned generation;
	unsigned number;  /* of a worker: 0 .. workers-1 */
	unsigned workers; /* of this generation */
	int channel;      /* our end of the SEQPACKET pair with the master; non-blocking */
	const struct config *config;
	const struct listener_set *listeners; /* workers only */
	const char *broker_path;              /* socket that workers connect to */
	int broker_listener;                  /* broker only, else -1 */
	int journal[JOURNAL_COUNT]; /* broker only: memfds that the master keeps, else -1 */
	const char *keeper_path;    /* socket that workers connect to */
	int keeper_listener;        /* keeper only, else -1 */
	int children_file;          /* keeper only, else -1: see common/leftovers.h */
	unsigned epoch;             /* keeper only: how many there were before */
	const struct vault *vault;  /* keeper only: of the one before */
	struct vault *left;         /* broker and keeper: common/handover.h */
	struct metrics *metrics;
	int metrics_slot;
	uint8_t session_key[SESSION_KEY_SIZE]; /* HMAC key of session ids */
	struct log *log;
};

/* Run until told to end. Returns the exit code of the process. */
int worker_main(const struct role_boot *boot);
int broker_main(const struct role_boot *boot);
int keeper_main(const struct role_boot *boot);
/* `margay bridge`, a program of its own: see worker/bridge/bridge.c. */
int bridge_main(int argc, char **argv);

#endif
