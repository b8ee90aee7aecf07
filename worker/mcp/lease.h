/*
 * lease: a session with a legacy upstream for one call at a time.
 *
 * What a stdio server asks names no call, nor does what an HTTP server asks on its stream outside
 * of requests, as many do (mcp-wire 3.3). So calls whose clients can be asked get a session of
 * their own while they run: at stdio servers always, with a child; at HTTP servers with that stream
 * open, as long as there are not LEASES_HTTP_MAX of them: beyond, only what is asked on the stream
 * of the call itself is heard. A session is kept for the next such call; but one whose call was
 * left in the middle is ended, because what it still asks would be asked of somebody else, and all
 * are ended when the worker drains.
 */
#ifndef MARGAY_WORKER_MCP_LEASE_H
#define MARGAY_WORKER_MCP_LEASE_H

#include "worker/mcp/liaison.h"

enum { LEASES_HTTP_MAX = 16 }; /* of one upstream in one worker */

struct errand;
struct lease;

/* Whether calls of this kind can't do without. */
bool lease_is_needed(const struct upstream *u, unsigned capabilities);
/* One that is free or new; NULL when memory is short or, at HTTP servers, there are enough. */
struct lease *lease_take(struct worker *w, const struct liaison_want *want);
unsigned lease_number(const struct lease *lease);
/* Send the errand, as soon as what the server asks outside of requests would be heard. */
void lease_send(struct lease *lease, struct errand *r);
/* The server forgot the session. */
void lease_forget(struct lease *lease);
/* The call is over; `clean`: it was answered. */
void lease_give_back(struct worker *w, struct lease *lease, bool clean);
/* End those that are free, and the others when they are given back. */
void leases_drain(struct worker *w);
void leases_close(struct worker *w);
void lease_timeouts_init(struct worker *w);

#endif
