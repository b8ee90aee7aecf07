/*
 * turn: how long one turn of an event loop kept its process busy, and with what (event-loop, 9).
 *
 * A turn begins when the loop has polled and ends before it polls again; the owner's ev_prepare
 * says when. It is a metric, and a warning when it was long, with the callback that took most of
 * it. Every callback of a watcher says its name first; what it calls counts as its own.
 */
#ifndef MARGAY_COMMON_TURN_H
#define MARGAY_COMMON_TURN_H

#include <ev.h>
#include <stdint.h>

#include "common/log.h"
#include "common/metrics/metrics.h"

struct turn {
	ev_check check;
	uint64_t started;    /* nanoseconds; 0 before the first poll */
	const char *running; /* callback */
	const char *longest; /* of those that are over */
	uint64_t entered,
	    took; /* `running` began, `longest` took; nanoseconds, of the coarse clock */
};

void turn_watch(struct turn *t, struct ev_loop *loop);
/* A callback begins; `name`, a constant, is its class. Without a turn under way: nothing. A few
 * nanoseconds: the clock is the coarse one, so what took is right to 10 ms at worst. */
void turn_enter(const char *name);
void turn_end(struct turn *t, struct metrics_slot *metrics, struct log *log);

#endif
