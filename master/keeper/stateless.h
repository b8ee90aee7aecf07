/*
 * stateless: servers of the stateless era (2026-07-28) behind the keeper.
 *
 * Such a server knows no sessions, so one process serves all. Whether a server is one is asked of
 * its process with `server/discover` (mcp-wire, 2.1): one that answers as its era does is
 * everybody's from then on; one that does not is used as before, in the same process if it still
 * lives, and the fleet remembers until something speaks against it.
 */
#ifndef MARGAY_MASTER_KEEPER_STATELESS_H
#define MARGAY_MASTER_KEEPER_STATELESS_H

#include "master/keeper/peer.h"

/* The one child that serves all, or is being asked whether it can; NULL: none. */
struct instance *stateless_find(const struct fleet *f);
/* A message without a session. `message` is within `payload`. */
void stateless_ask(struct fleet *f, struct peer *p, const struct frame *frame, struct span payload,
    struct span message);
/* Ask a running child that nobody uses; its state is STARTING until it answered. */
void stateless_probe(struct instance *i);
/* It answered one of the questions that were to find out its era. */
void stateless_probed(struct instance *i, enum call_kind kind, const struct envelope *e);
/* It did not in time: ask on, or take it for one of the era before. */
void stateless_late(struct instance *i);
/* It ended instead. False when that tells nothing of its era. */
bool stateless_ended(struct instance *i) MUST_CHECK;
/* What it says that is no answer. */
void stateless_deliver(struct instance *i, const struct envelope *e, struct span line);
/* Whether a request is under way that ends by itself, as subscriptions/listen does not. */
bool stateless_busy(const struct instance *i);

#endif
