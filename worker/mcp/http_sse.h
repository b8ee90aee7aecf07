/*
 * http_sse: clients of HTTP+SSE, the transport of 2024-11-05 (S/2024-11-05/basic/transports.mdx).
 *
 * GET opens the stream that all messages for the client come on; its first event says where the
 * client POSTs its own: the same path with a token, which is a session id that nobody can guess.
 * The worker that has the stream serves the client through an inlet; a POST may land on any worker,
 * which mails the message there. The session ends with the stream, as that revision has it; but
 * when Margay ended the stream, or its worker died, the client's next one goes on with it: the
 * token is the id of its first event.
 */
#ifndef MARGAY_WORKER_MCP_HTTP_SSE_H
#define MARGAY_WORKER_MCP_HTTP_SSE_H

#include "worker/mcp/exchange.h"

/* Note what the head of a request to such a route says. True when it is of that transport. */
bool http_sse_head(struct exchange *x, const struct http_head *head);
/* Serve it, when it is complete. */
void http_sse_start(struct exchange *x);
/* The client reads again. */
void http_sse_drained(struct exchange *x);
/* The worker drains: the stream stays for as long as it may, and its session longer. */
void http_sse_drain(struct exchange *x);
void http_sse_leave(struct exchange *x);
void http_sse_free(struct exchange *x);

#endif
