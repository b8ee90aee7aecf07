/*
 * hangup: the client connections of a worker that does not turn, ended from outside.
 *
 * Who is on such a connection would wait until the worker turns again or is killed. The master has
 * a pidfd of the worker, and by that can have duplicates of its sockets (pidfd_getfd(2)): those
 * whose local address is a listener of the worker's generation are ended as the system would end
 * them had the worker died. Their clients come back, and siblings accept them. A worker that turns
 * again finds connections that have ended, as at any time. Nothing else of it is touched. The
 * broker is told, so that a client that asks a sibling for what was under way there need not wait
 * either.
 *
 * A step takes a few descriptors, the next one comes in a later turn of the loop.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_HANGUP_H
#define MARGAY_MASTER_SUPERVISOR_HANGUP_H

#include <ev.h>
#include <stdbool.h>

struct child;

struct hangup {
	ev_timer step;
	bool begun;     /* since the worker fell silent */
	int next, end;  /* descriptors of the worker: to look at, and how many there may be */
	unsigned count; /* of connections that were ended */
};

void hangup_init(struct hangup *h);
/* Begin with the worker's clients; nothing happens when that was begun before. */
void hangup_begin(struct child *c);
/* The worker turns again, or is gone: leave the rest. The next silence begins anew. */
void hangup_stop(struct child *c);

#endif
