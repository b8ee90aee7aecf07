/*
 * endless: Margay as it must not be, to prove that the watchdog ends it.
 *
 * A worker that is asked for /endless never comes back from looking for its route. Takes the place
 * of route_find at link time.
 */
#include <stdbool.h>

#include "worker/route.h"

const struct route *__real_route_find(const struct worker *w, struct span target);
const struct route *__wrap_route_find(const struct worker *w, struct span target);

const struct route *__wrap_route_find(const struct worker *w, struct span target)
{
	for (volatile bool on = span_equal(target, SPAN("/endless")); on;) {
	}
	return __real_route_find(w, target);
}
