/*
 * inventory: the master's possessions written down as a manifest (manifest.h), at the end of every
 * turn of its loop, and told to the broker, which holds them in case that the master dies.
 *
 * Only what serves is written down: a generation that still starts dies with its master.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_INVENTORY_H
#define MARGAY_MASTER_SUPERVISOR_INVENTORY_H

#include "common/attributes.h"

struct child;
struct generation;
struct supervisor;

/* Write everything down and tell the broker what changed. */
void inventory_update(struct supervisor *s);
/* Nobody is to take over from this master: it ends. */
void inventory_withdraw(struct supervisor *s);
/* The broker is a new process: it knows nothing. */
void inventory_broker_started(struct supervisor *s);
/* Its descriptors are about to be closed. */
void inventory_process_gone(struct supervisor *s, const struct child *c);

/* inherit.c: the other direction. */
/*
 * Make generations and processes from the heritage: they go on as they are. Watching begins at
 * once. 0, or -errno with `why` filled: then nothing is watched.
 */
int inherit_all(struct supervisor *s, char *why, size_t size) MUST_CHECK;
/*
 * Close the listeners that no generation uses, unless a reload under way may want them: the broker
 * holds them, too, so they could not be bound anew.
 */
void inherit_settle(struct supervisor *s);
/* It can't be used: let go of it without any harm to it, and end. */
void inherit_give_up(struct supervisor *s, const char *why);

#endif
