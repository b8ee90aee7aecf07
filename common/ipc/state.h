/*
 * state: the bodies of the manifest's records (manifest.h), for one version of it: they are read
 * by the same version only, on the same machine.
 */
#ifndef MARGAY_COMMON_IPC_STATE_H
#define MARGAY_COMMON_IPC_STATE_H

#include <stdint.h>

#include "common/listener.h"

/* MANIFEST_STATE */
struct master_record {
	int32_t pid;
	uint32_t last_generation, keeper_epoch;
	uint32_t reload_ok;
	double reload_time, started; /* Unix time */
	double orphan_timeout;       /* seconds that the others wait for another master */
	char reload_message[256];
};

/* MANIFEST_GENERATION */
struct generation_record {
	uint32_t number, state; /* enum generation_state */
	int32_t adopter[LISTENER_SLOTS];
	double begun, drain_begun; /* clock_coarse() */
};

/* MANIFEST_PROCESS */
struct process_record {
	uint32_t role, state; /* enum role, enum child_state */
	uint32_t number, generation, restarts;
	int32_t pid, metrics_slot;
	double started; /* clock_coarse() */
};

#endif
