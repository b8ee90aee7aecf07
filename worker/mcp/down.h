/*
 * down: clients of the stateless era at an upstream of the legacy era (mcp-wire 3).
 *
 * The request goes out in a session that Margay keeps (liaison.h); server/discover is answered from
 * what that session's handshake told. A client that closes its connection cancels its request, as
 * its era has it.
 */
#ifndef MARGAY_WORKER_MCP_DOWN_H
#define MARGAY_WORKER_MCP_DOWN_H

struct exchange;

/* The request in `x` is valid and its upstream legacy: it is answered or on its way afterwards. */
void down_start(struct exchange *x);

#endif
