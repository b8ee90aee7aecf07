/*
 * change: updates and ends of sessions whose makers wait until no worker can use what was there
 * before.
 *
 * A worker answers its client when the broker confirmed the change, and that client's next request
 * may land on any worker: so the others have dropped the old record by then. A worker that does not
 * hear is not waited for long.
 */
#ifndef MARGAY_MASTER_BROKER_CHANGE_H
#define MARGAY_MASTER_BROKER_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/ipc/frame.h"

struct change;
struct client;

struct changes {
	struct change *by_number; /* a hash table, the oldest first */
	uint32_t last;
	bool forgetting, forgotten; /* changes_forget runs; there is more for it */
	/* All have heard, or are not waited for any more. */
	void (*confirm)(struct client *maker, const struct frame *asked);
};

/* Wait for the clients in `waits` (one bit each) before `asked` is confirmed. The number by which
 * they answer; 0 when memory is short: nobody is waited for. */
uint32_t change_begin(
    struct changes *c, struct client *maker, const struct frame *asked, uint64_t waits) MUST_CHECK;
/* One client has heard. */
void change_heard(struct changes *c, uint32_t number, uint64_t bit);
/* A client is gone, and with it its cache. */
void changes_forget(struct changes *c, const struct client *client, uint64_t bit);
/* Called from time to time. `now`: clock_coarse(). */
void changes_expire(struct changes *c, double now);
void changes_close(struct changes *c);

#endif
