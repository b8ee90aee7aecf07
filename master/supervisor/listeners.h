/*
 * listeners: the bound sockets of every configured address, LISTENER_SLOTS each (architecture.md,
 * slots).
 *
 * An address is bound once and kept as long as some generation uses it; a generation's view of it
 * (listener_set) shares the descriptors. Nobody accepts here.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_LISTENERS_H
#define MARGAY_MASTER_SUPERVISOR_LISTENERS_H

#include "common/attributes.h"
#include "common/listener.h"

struct listeners;

int listeners_open(struct listeners **out) MUST_CHECK;
void listeners_close(struct listeners *l);
/*
 * Find or bind all addresses of a configuration and fill `set`. 0, or -errno with *failed the
 * address; then nothing stays bound that was not before. Each success takes one reference on each
 * address.
 */
int listeners_acquire(struct listeners *l, const struct config *config, struct listener_set *set,
    const struct config_address **failed) MUST_CHECK;
/*
 * Refuse whoever connects from now on, at all addresses: for stopping, when nobody will accept any
 * more. A client is better told at once than left waiting in a queue.
 */
void listeners_refuse(struct listeners *l);
/* Give the references of a set back; addresses that nobody uses any more are closed. */
void listeners_release(struct listeners *l, const struct listener_set *set);

#endif
