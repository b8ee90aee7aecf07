/*
 * cache: results that a stateless upstream allowed everybody to keep (2026-07-28, caching).
 *
 * Of one worker, bounded by cache.size; the result used longest ago goes first. Only `public`
 * results are kept: what is `private` belongs to an authorization context, and Margay knows none
 * yet. A result lives for its ttlMs, or until the upstream says, to anybody who listens through
 * this worker, that it changed.
 */
#ifndef MARGAY_WORKER_MCP_CACHE_H
#define MARGAY_WORKER_MCP_CACHE_H

#include "common/compose.h"
#include "common/envelope.h"
#include "worker/mcp/method.h"

struct cache;
struct upstream;

/* `size` in bytes; 0: nothing is kept. *out is the caller's. 0 or -ENOMEM. */
int cache_open(size_t size, struct cache **out) MUST_CHECK;
void cache_close(struct cache *c);

/* The key of a request for a cacheable method: what it asks, and what its client can do (raw JSON).
 * Empty when its answer must not be kept. */
void cache_key(struct compose *key, const struct upstream *u, const struct envelope *e,
    struct span capabilities);
/* Keep a result (raw JSON) if it may be kept. */
void cache_put(struct cache *c, const struct upstream *u, const struct mcp_method *method,
    struct span key, struct span result);
/* The result for this key with what is left of its ttlMs as the value of the next member. False
 * when there is none. */
bool cache_get(struct cache *c, struct span key, struct compose *out);
/* A notification of the upstream's: what it says has changed is forgotten. */
void cache_hear(struct cache *c, const struct upstream *u, const struct envelope *e);

#endif
