/*
 * era: whether an upstream is of the stateless era (2026-07-28 and later) or before it.
 *
 * Found out by `server/discover`, which every modern server has and which harms no other
 * (mcp-wire, 2.1); remembered for each upstream and worker, and asked again when it stops being
 * true. The children of a stdio upstream are asked by
 * the keeper.
 */
#ifndef MARGAY_WORKER_MCP_ERA_H
#define MARGAY_WORKER_MCP_ERA_H

#include <stdbool.h>
#include <bsd/sys/queue.h>

#include "common/attributes.h"

struct upstream;
struct worker;

enum era { ERA_UNKNOWN, ERA_LEGACY, ERA_MODERN };

TAILQ_HEAD(era_waits, era_wait);

/* Somebody who waits for the answer. Embed it; cancel it before it goes. */
struct era_wait {
	TAILQ_ENTRY(era_wait) link;
	struct era_waits *list; /* while it waits */
	/* `era` is ERA_UNKNOWN when the upstream could not be asked: `reason` and `detail` as in
	 * upstream_call_ops.end. */
	void (*done)(struct era_wait *wait, enum era era, int reason, const char *detail);
};

/* What is known. ERA_UNKNOWN: ask. */
enum era era_of(const struct upstream *u);
/* It is modern, refused initialize, and what it told of itself is not old. */
bool era_is_modern_only(const struct upstream *u);
/* Ask; `wait->done` will run, perhaps before this returns. False when memory is short. */
bool era_ask(struct upstream *u, struct era_wait *wait) MUST_CHECK;
void era_cancel(struct era_wait *wait);
/* It answered as no server of its era does: ask again next time. */
void era_forget(struct upstream *u);
/* End all questions; nobody may wait any more. */
void era_close(struct worker *w);

#endif
