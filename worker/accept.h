/*
 * accept: taking connections from this worker's slots.
 *
 * Owns the watchers, never the sockets: the queue of a slot belongs to the master's descriptor. A
 * watcher is stopped, a slot is never closed or shut down (docs/architecture.md, slots).
 */
#ifndef MARGAY_WORKER_ACCEPT_H
#define MARGAY_WORKER_ACCEPT_H

#include <stdint.h>

#include "common/attributes.h"

struct worker;
struct accept_slots;

int accept_open(struct worker *w, struct accept_slots **out) MUST_CHECK;
void accept_close(struct accept_slots *a);
/* Start on the slots that are ours by number: slot mod workers = number. */
void accept_start(struct accept_slots *a);
/*
 * Stop for good, but on the listeners whose bits are set only when handshakes under way had time to
 * end and their queues are empty: nobody else will. Then drain_stopped_accepting; without such
 * listeners at once.
 */
void accept_leave(struct accept_slots *a, uint32_t listeners);
/* Take over a slot of a sibling (of every address) until it is released. Harmless when repeated. */
void accept_adopt(struct accept_slots *a, unsigned slot);
void accept_release(struct accept_slots *a, unsigned slot);

#endif
