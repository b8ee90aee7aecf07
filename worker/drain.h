/*
 * drain: how a worker ends.
 *
 * While another generation serves, what this one still has ends in its own time, within
 * timeouts.drain_timeout: requests run to their end, idle connections stay for
 * timeouts.keepalive_linger, event streams end one by one over timeouts.drain_spread, so that their
 * clients do not come back all at once. When nobody follows, because Margay stops or the master
 * died, all of that ends as soon as it can, within timeouts.shutdown; a drain under way turns into
 * that. What is left at the deadline is cut and counted.
 */
#ifndef MARGAY_WORKER_DRAIN_H
#define MARGAY_WORKER_DRAIN_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct worker;

struct drain {
	ev_timer deadline;
	double began, spread_end; /* loop time */
	unsigned cut;             /* connections */
	bool last;                /* nobody follows */
	bool leaving;             /* some slots are still watched */
};

void drain_init(struct worker *w);
/* Another generation serves, but not the listeners whose bits are set: these are left in order. */
void drain_start(struct worker *w, uint32_t leaving);
/* No slot is watched any more. */
void drain_stopped_accepting(struct worker *w);
/* Nobody follows. */
void drain_last(struct worker *w);
/* End at once. */
void drain_cut(struct worker *w);
/* Seconds for which an event stream may stay, at random. */
double drain_wait(const struct worker *w);
/* The loop ended. */
void drain_ended(const struct worker *w);

#endif
