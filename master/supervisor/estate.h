/*
 * estate: what outlives every other process: the runtime directory and its lock, metrics, journal,
 * the sockets of broker and keeper, the list of children, the key of session ids.
 *
 * Each is a row of a table: opened anew, or taken over from another master (supervisor.h,
 * heritage) after it was verified. A kind of record that nobody here knows is refused.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_ESTATE_H
#define MARGAY_MASTER_SUPERVISOR_ESTATE_H

#include "common/attributes.h"
#include "common/config/config.h"

struct supervisor;

/* Make the directory and lock it. An exit code, 0 when all is
 * well; else stderr says why. */
int estate_claim(struct supervisor *s, const struct config *config);
/* Everything else, from the heritage where it is there. 0, or -errno with `why` filled. */
int estate_open(
    struct supervisor *s, const struct config *config, char *why, size_t size) MUST_CHECK;
/* A retired master comes back: only what may have changed is taken over. As estate_open. */
int estate_reopen(struct supervisor *s, char *why, size_t size) MUST_CHECK;
/* Remove what has a name and close all; another master that took over keeps the names. */
void estate_close(struct supervisor *s);

#endif
