/*
 * estate: what a keeper leaves to the one that takes its place (common/handover.h).
 *
 * All that is under way and in no page (page.h): the workers' connections, calls in flight and who
 * waits for them, bytes that were read or are to be written in part. Heads of records, in the order
 * in which they are written: what a record names came before it. Members may be added at the end.
 */
#ifndef MARGAY_MASTER_KEEPER_ESTATE_H
#define MARGAY_MASTER_KEEPER_ESTATE_H

#include "common/handover.h"
#include "master/keeper/intake.h"
#include "master/keeper/send.h"

enum estate_type {
	ESTATE_KEEPER = 1,
	ESTATE_FLEET,    /* name, digest, last error */
	ESTATE_PEER,     /* what it sent of a frame, what it is still to get */
	ESTATE_INSTANCE, /* for stdin, part of a line of stdout, of stderr, handshake */
	ESTATE_LINK,
	ESTATE_TEXT, /* the text */
	ESTATE_OUTLET,
	ESTATE_CALL,   /* the client's id and progress token */
	ESTATE_WAITER, /* payload */
	ESTATE_REMNANT /* mark; orphans.c */
};

enum { ESTATE_NOBODY = -1 }; /* for the index of a peer, or a time left */

struct estate_keeper {
	uint64_t last_id;
};

struct estate_fleet {
	uint64_t starts, start_failures, deaths, lost;
	double retry_at;
	uint32_t failures, backoff;
	uint8_t legacy;
};

struct estate_peer {
	int32_t index, fd;
	double congested_since;
	uint16_t protocol;
	uint8_t greeted;
};

struct estate_instance {
	uint64_t id, paused_by;
	double timer, ready_at, last_used; /* seconds left, clock_coarse() twice */
	int32_t report, opener, stalled_by;
	uint32_t step, restarts;
	uint8_t state, shared, stateless, pinged, refuses_initialize, bound, input_broken, recycled;
	uint8_t output_skipping, errors_skipping;
};

struct estate_link {
	uint64_t instance;
	struct session_id session;
};

enum estate_text_kind { ESTATE_URI, ESTATE_ASKED, ESTATE_HELD };

struct estate_text {
	uint64_t instance;
	double since;
	struct session_id session;
	uint8_t kind;
};

struct estate_outlet {
	uint64_t instance;
	struct session_id session;
	int32_t peer;
	uint32_t request;
};

struct estate_call {
	uint64_t instance, number;
	int32_t peer;
	uint32_t request;
	struct session_id session;
	uint8_t linked, kind, listens, wants_log;
};

struct estate_waiter {
	struct frame frame;
	int32_t peer;
	uint64_t answers; /* owed for what was sent of it; older ones end in padding */
};

struct estate_remnant {
	double timer; /* seconds left */
	int32_t group;
	uint32_t rounds;
};

/* leave.c: leave everything and end the process. Returns when that can't be done now. */
void keeper_leave(struct keeper *k);
/* inherit.c: take over what was left, once all that is in the vault was adopted. */
void keeper_inherit(struct keeper *k, struct handover_reader *left);

/* orphans.c */
void remnants_leave(struct keeper *k, struct handover *h);
void remnant_inherit(struct keeper *k, const struct handover_record *record);

#endif
