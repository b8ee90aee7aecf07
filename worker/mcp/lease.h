/*
 * lease: a session with a legacy upstream for one call at a time.
 *
 * What a stdio server asks names no call (mcp-wire 3.3). So calls whose clients can be asked get a
 * session, and with it a child, of their own while they run. It is kept for the next such call;
 * but a session whose call was left in the middle is ended, because what it still asks would be
 * asked of somebody else, and all are ended when the worker drains.
 */
#ifndef MARGAY_WORKER_MCP_LEASE_H
#define MARGAY_WORKER_MCP_LEASE_H

#include "worker/mcp/liaison.h"

struct lease;

/* Whether calls of this kind need one. */
bool lease_is_needed(const struct upstream *u, unsigned capabilities);
/* One that is free or new; NULL when memory is short. Its number is in want.lease. */
struct lease *lease_take(struct worker *w, const struct liaison_want *want);
unsigned lease_number(const struct lease *lease);
/* The call is over; `clean`: it was answered. */
void lease_give_back(struct worker *w, struct lease *lease, bool clean);
/* End those that are free, and the others when they are given back. */
void leases_drain(struct worker *w);
void leases_close(struct worker *w);

#endif
