/*
 * giving: a long answer on its way to the client, some of it in a turn of the loop.
 *
 * Given at once, what the socket does not take would be copied into memory that nobody has touched
 * yet. It has the message, and waits while the client is behind. Owned by its exchange, which it
 * ends.
 */
#ifndef MARGAY_WORKER_MCP_GIVING_H
#define MARGAY_WORKER_MCP_GIVING_H

#include "common/attributes.h"
#include "common/buffer.h"
#include "worker/mcp/mapping.h"

struct exchange;

/* Bytes: what is given in a turn, and what is given at once when there is no more. */
enum { GIVING_STEP = 64 * 1024, GIVING_SHORT = 256 * 1024 };

/* Give all of `message`, which is taken over, as the body that was begun with its length, and end
 * the answer. 0; or -ENOMEM: nothing was done. The exchange may be over afterwards. */
int giving_start(struct exchange *x, struct buffer *message) MUST_CHECK;
/* The same of a message in memory, which is taken over. */
int giving_start_mapped(struct exchange *x, struct span message, struct mapping *memory) MUST_CHECK;
/* The client reads again. */
void giving_go_on(struct exchange *x);
/* The exchange is over. */
void giving_stop(struct exchange *x);
void giving_free(struct exchange *x);

#endif
