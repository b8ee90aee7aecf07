/* route: see route.h. Binary search, so that 200 routes cost what one costs. */
#include "worker/route.h"

#include <errno.h>
#include <stdlib.h>

#include "worker/upstream/upstream.h"
#include "worker/worker.h"

static int compare_routes(const void *a, const void *b)
{
	return strcmp(
	    ((const struct route *)a)->config->path, ((const struct route *)b)->config->path);
}

int routes_open(struct worker *w)
{
	const struct config *config = w->config;

	w->routes = calloc(config->route_count + 1, sizeof(*w->routes));
	if (!w->routes)
		return -ENOMEM;
	for (size_t i = 0; i < config->route_count; i++) {
		const struct config_route *row = &config->routes[i];
		w->routes[i] = (struct route){.config = row,
		    .upstream = &w->upstreams[row->upstream],
		    .metrics_id = metrics_route_id(w->boot->metrics, row->path)};
	}
	w->route_count = config->route_count;
	qsort(w->routes, w->route_count, sizeof(*w->routes), compare_routes);
	return 0;
}

static int compare_path(const void *key, const void *row)
{
	const struct span *path = key;
	const char *candidate = ((const struct route *)row)->config->path;
	int order = strncmp(path->p, candidate, path->n);

	return order != 0 || candidate[path->n] == '\0' ? order : -1;
}

const struct route *route_find(const struct worker *w, struct span target)
{
	const char *query = memchr(target.p, '?', target.n);
	struct span path = {target.p, query ? (size_t)(query - target.p) : target.n};

	return bsearch(&path, w->routes, w->route_count, sizeof(*w->routes), compare_path);
}
