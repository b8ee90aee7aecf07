/* route: from request path to upstream. Owned by the worker, one array sorted by path per
 * generation. */
#ifndef MARGAY_WORKER_ROUTE_H
#define MARGAY_WORKER_ROUTE_H

#include "common/attributes.h"
#include "common/config/config.h"
#include "common/span.h"

struct upstream;
struct worker;

struct route {
	const struct config_route *config;
	struct upstream *upstream;
	unsigned metrics_id;
};

/* Build w->routes; needs w->upstreams. 0 or -ENOMEM. */
int routes_open(struct worker *w) MUST_CHECK;
/* The route of a request target (its query is ignored), or NULL. */
const struct route *route_find(const struct worker *w, struct span target);

#endif
