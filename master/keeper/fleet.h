/*
 * fleet: all children of one stdio upstream, and its policy: how they are shared, how many there
 * may be, and when to try again after failures.
 *
 * A failure is a start that came to nothing. After some in a row the breaker opens: requests are
 * refused at once until the next try. No fleet knows of another.
 */
#ifndef MARGAY_MASTER_KEEPER_FLEET_H
#define MARGAY_MASTER_KEEPER_FLEET_H

#include "master/keeper/keeper.h"

struct fleet {
	TAILQ_ENTRY(fleet) link;
	struct keeper *keeper;
	char *name;
	const struct config_stdio *config;
	struct definitions *definitions; /* that own `config` */
	char digest[CONFIG_SHA256_TEXT];
	unsigned metrics_id;
	struct instance_list instances;
	unsigned running, spare; /* with a process; of these without a session yet */
	unsigned sessions;
	struct backoff backoff;
	unsigned failures; /* in a row */
	double retry_at;   /* clock_coarse() */
	ev_timer retry;
	struct waiter_list waiters; /* until the next try */
	unsigned waiter_count;
	bool retired; /* its definition changed: nothing new, gone with its last child */
	bool legacy;  /* found out: it is not of the stateless era */
	uint64_t starts, start_failures, deaths, lost;
	char last_error[256];
};

/* Whether another process may be started now. */
enum fleet_gate {
	FLEET_OPEN,
	FLEET_WAIT, /* for fleet->retry, or the next turn: the request may wait, too */
	FLEET_FULL, /* as many as there may be */
	FLEET_BROKEN,
};

/* Bring the fleets in line with a configuration; unchanged ones keep their children. Takes
 * `definitions`. 0 or -ENOMEM, then nothing changed. */
int fleets_configure(struct keeper *k, struct definitions *definitions) MUST_CHECK;
void fleets_close(struct keeper *k);
/* A running child that nobody has asked anything yet; NULL: none. */
struct instance *fleet_spare(const struct fleet *f);
/* The child that serves all sessions of a shared one, and has not ended for good; NULL: none. */
struct instance *fleet_common(const struct fleet *f);
struct fleet *fleet_find(struct keeper *k, struct span name);
/* One for children that nobody defines any more; NULL when memory is short. */
struct fleet *fleet_orphanage(struct keeper *k, const char *name);
enum fleet_gate fleet_gate(const struct fleet *f);
/* Why the gate is not open, for the client. */
void fleet_gate_text(const struct fleet *f, enum fleet_gate gate, char *out, size_t size);
/* Somebody waits for the next try: see that it comes. */
void fleet_await(struct fleet *f);
/* A start came to nothing. */
void fleet_failed(struct fleet *f, const char *why);
/* Counts changed: the metrics follow, and a retired fleet without children goes. */
void fleet_changed(struct fleet *f);
/* Keep `min` spares, end what is idle. Called often. */
void fleets_tick(struct keeper *k);
/* End all children; those who come get new ones. How many there were. */
unsigned fleet_restart(struct fleet *f);

#endif
