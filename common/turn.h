/*
 * turn: how long one turn of an event loop kept its process busy (event-loop, 9).
 *
 * A turn begins when the loop has polled and ends before it polls again; the owner's ev_prepare
 * says when. It is a metric, and a warning when it was long.
 */
#ifndef MARGAY_COMMON_TURN_H
#define MARGAY_COMMON_TURN_H

#include <ev.h>
#include <stdint.h>

#include "common/log.h"
#include "common/metrics/metrics.h"

struct turn {
	ev_check check;
	uint64_t started; /* nanoseconds; 0 before the first poll */
};

void turn_watch(struct turn *t, struct ev_loop *loop);
void turn_end(struct turn *t, struct metrics_slot *metrics, struct log *log);

#endif
