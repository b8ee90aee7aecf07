/*
 * stay: for how long an event stream stays open while its worker drains (drain_wait).
 *
 * Each stream may have one, made when it is first told, so that those of a worker that does not
 * drain cost nothing. Its owner is the stream's, which frees it; stop it before its conn goes.
 */
#ifndef MARGAY_WORKER_STAY_H
#define MARGAY_WORKER_STAY_H

#include <ev.h>

#include "common/attributes.h"

struct conn;

typedef void stay_over(struct conn *c);

struct stay {
	ev_timer timer;
	struct conn *conn;
	stay_over *over;
};

/* `over` runs when it is time, not before this returns; begun again it is another time. *stay is
 * NULL at first, and free()d by the caller at the end. 0 or -ENOMEM. */
int stay_begin(struct stay **stay, struct conn *c, stay_over *over) MUST_CHECK;
/* Harmless when it is over. */
void stay_stop(struct stay *stay);

#endif
