/*
 * probation: a new generation whose workers crash again and again is taken back by itself.
 *
 * A generation is on probation for its first half minute, unless it is itself what was gone back
 * to. The configuration that it would be replaced by is kept as a memfd, not as a file: the file
 * holds what crashes.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "master/supervisor/supervisor.h"
#include "master/supervisor/upgrade.h"

static const double probation = 30, crash_window = 10; /* seconds */

static bool is_on_probation(const struct generation *g)
{
	return g->fallback_fd >= 0 && clock_coarse() - g->begun < probation;
}

void generation_keep_fallback(struct generation *g, const struct generation *old)
{
	if (!old || g->supervisor->reload.back[0])
		return;
	/* One on probation has not shown that it is good, taken again or not. */
	bool proven = !is_on_probation(old);
	if (proven && strcmp(old->sha256, g->sha256) == 0)
		return;
	int good = proven ? old->config_fd : old->fallback_fd;
	g->fallback_fd = fcntl(good, F_DUPFD_CLOEXEC, 3);
}

void generation_crashed(struct generation *g)
{
	double now = clock_coarse();
	char why[160];

	memmove(g->crashes, g->crashes + 1, sizeof(g->crashes) - sizeof(g->crashes[0]));
	g->crashes[GENERATION_CRASHES - 1] = now;
	if (g->state != GENERATION_SERVING || !is_on_probation(g) || g->crashes[0] <= 0 ||
	    now - g->crashes[0] > crash_window || reload_busy(g->supervisor) ||
	    upgrade_busy(g->supervisor))
		return;
	snprintf(why, sizeof(why),
	    "workers of generation %u crashed %d times in a row: back to the configuration before",
	    g->number, GENERATION_CRASHES);
	int fallback = g->fallback_fd;
	g->fallback_fd = -1;
	reload_back(g->supervisor, fallback, why);
	close(fallback);
}
