/*
 * catalogue: which arguments of an upstream's tools are repeated in headers.
 *
 * Read from its tools/list when it is needed first, for each upstream and worker, and again in the
 * background when it is old: requests of modern clients are checked by it, and those to modern
 * upstreams get their Mcp-Param-* from it (mcp-wire 5.3). What is not known is not checked: the
 * upstream will judge.
 */
#ifndef MARGAY_WORKER_MCP_CATALOGUE_H
#define MARGAY_WORKER_MCP_CATALOGUE_H

#include "worker/mcp/era.h"
#include "worker/mcp/translate/translate.h"

struct catalogue;
struct upstream;

TAILQ_HEAD(catalogue_waits, catalogue_wait);

/* Somebody who waits until it was read. Embed it; cancel it before it goes. */
struct catalogue_wait {
	TAILQ_ENTRY(catalogue_wait) link;
	struct catalogue_waits *list; /* while it waits */
	void (*done)(struct catalogue_wait *wait);
};

/* True when it may be used now; else `wait->done` will run, perhaps before this returns. `era` is
 * the upstream's. */
bool catalogue_ready(struct upstream *u, enum era era, struct catalogue_wait *wait);
void catalogue_cancel(struct catalogue_wait *wait);
/* The annotations of the tool of that name; NULL when it has none or is not known. Valid now only.
 */
const struct annotations *catalogue_find(const struct upstream *u, struct span tool);
/* Some tool has some. */
bool catalogue_has_any(const struct upstream *u);
/* Something showed that it is wrong: read it again. */
void catalogue_forget(struct upstream *u);
void catalogues_close(struct worker *w);

#endif
