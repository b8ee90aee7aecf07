/*
 * splicing: a long message that is written anew, some of it in a turn of the loop.
 *
 * Composed at once, all that it takes over would be copied into memory that nobody has touched yet.
 * What is composed are therefore the pieces around its long values (compose_cuts); these are put in
 * here, SPLICING_STEP bytes a turn. They are their owner's, and stay where they are.
 */
#ifndef MARGAY_WORKER_MCP_SPLICING_H
#define MARGAY_WORKER_MCP_SPLICING_H

#include "common/compose.h"

struct splicing;
struct worker;

/* Bytes that are copied in a turn, about 50 us with the pages of new memory. */
enum { SPLICING_STEP = 64 * 1024 };

/* In a later turn: the text is whole. The splicing may be freed in it. */
typedef void splicing_done(void *owner);

/* Put the cuts (copied) into the text that they are of, which is not to be touched until then. NULL
 * when memory is short. */
struct splicing *splicing_start(struct worker *w, struct buffer *text,
    const struct compose_cuts *cuts, splicing_done *done, void *owner) MUST_CHECK;
/* It is not wanted any more. NULL is nothing. */
void splicing_stop(struct splicing *s);
void splicing_free(struct splicing *s);

#endif
