/*
 * liaison: sessions with legacy upstreams that Margay keeps itself, for clients that have none.
 *
 * Clients of the stateless era that can be asked for the same things and want the same log messages
 * share one (mcp-wire 3.1). It is a session as any other, known to the broker; its id is derived
 * from what it is for, so that every worker finds the same one and no client can guess it; no route
 * is its own, so that none could use it. Its state is the upstream's InitializeResult.
 *
 * Opened on demand: initialize, notifications/initialized, logging/setLevel, then the broker. When
 * two workers open the same at once, the second one ends its own and takes the first one's.
 */
#ifndef MARGAY_WORKER_MCP_LIAISON_H
#define MARGAY_WORKER_MCP_LIAISON_H

#include <bsd/sys/queue.h>
#include <stdbool.h>

#include "common/attributes.h"
#include "common/ipc/broker_proto.h"

struct liaison;
struct upstream;
struct worker;

/* What a session is for. */
struct liaison_want {
	struct upstream *upstream;
	unsigned capabilities; /* enum capability */
	int level;             /* of log messages, see liaison_level; -1: none */
	unsigned lease;        /* 0: shared by all workers; else this worker's, see lease.h */
};

/* Somebody who waits for one to be open. Embed it; cancel it before it goes. */
struct liaison_wait {
	TAILQ_ENTRY(liaison_wait) link;
	struct liaison *liaison; /* while it waits */
	/* `record` is valid now only; NULL when there is none: `reason` and `detail` as in
	 * upstream_call_ops.end. */
	void (*done)(struct liaison_wait *wait, const struct session_record *record, int reason,
	    const char *detail);
};

/* The level of that name, as raw JSON; -1 when there is none such. */
int liaison_level(struct span raw);
/* The id of the session for this. */
struct session_id liaison_id(const struct liaison_want *want);
/* The broker does not know it: open it. `wait->done` will run, perhaps before this returns. False
 * when memory is short. */
bool liaison_open(const struct liaison_want *want, struct liaison_wait *wait) MUST_CHECK;
void liaison_cancel(struct liaison_wait *wait);
/* Between two turns of the loop. */
void liaisons_free_closed(struct worker *w);
/* Give up on those being opened; nobody may wait any more. */
void liaisons_close(struct worker *w);

#endif
