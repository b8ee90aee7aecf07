/* scanning: common/scanning.h with a worker's loop, depth and envelope. */
#ifndef MARGAY_WORKER_MCP_SCANNING_H
#define MARGAY_WORKER_MCP_SCANNING_H

#include "common/scanning.h"
#include "worker/worker.h"

/* A batch. */
MUST_CHECK static inline struct scanning *scanning_start_batch(struct worker *w, struct span text,
    int (*each)(void *owner, const struct envelope *message), scanning_done *done, void *owner)
{
	struct scanning_place place = {w->loop, &w->envelope, w->config->limits.json_depth};

	return scanning_begin(place, text, each, done, owner);
}

/* One message. */
MUST_CHECK static inline struct scanning *scanning_start(
    struct worker *w, struct span text, scanning_done *done, void *owner)
{
	return scanning_start_batch(w, text, NULL, done, owner);
}

#endif
