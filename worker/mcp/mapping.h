/*
 * mapping: a file in memory that one may read.
 *
 * Owned by whoever holds it, as a buffer is, and handed on in the same way: the old owner keeps an
 * empty one. The file's descriptor is not needed any more. A long one that is released goes
 * MAPPING_STEP bytes in a turn of the loop: 0.05 microseconds a KiB.
 */
#ifndef MARGAY_WORKER_MCP_MAPPING_H
#define MARGAY_WORKER_MCP_MAPPING_H

#include <bsd/sys/queue.h>
#include <ev.h>

#include "common/attributes.h"
#include "common/span.h"

enum { MAPPING_STEP = 512 * 1024 };

/* Those that were released. */
struct mappings {
	TAILQ_HEAD(released_list, released) list;
	struct ev_loop *loop;
	ev_timer turn; /* due in the next one */
};

struct mapping {
	struct span text; /* p == NULL: there is none */
	struct mappings *released;
};

void mappings_init(struct mappings *released, struct ev_loop *loop);
/* All at once. */
void mappings_close(struct mappings *released);
/* Map all of `fd`, of which nothing is read yet; `released`, which outlives it, takes it when it
 * is. 0; -EMSGSIZE when it is empty or longer than `bound`; -errno. */
int mapping_open(struct mappings *released, int fd, size_t bound, struct mapping *out) MUST_CHECK;
/* It is another's from now on: what the caller has is empty. */
struct mapping mapping_take(struct mapping *m);
/* An empty one is nothing. */
void mapping_release(struct mapping *m);

#endif
