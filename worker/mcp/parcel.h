/*
 * parcel: what one piece of mail says, until the broker has it (broker_proto.h).
 *
 * What is longer than a frame takes goes in a memfd, into which it is written PARCEL_STEP bytes in
 * a turn of the loop, so that neighbours are served meanwhile. Until it is whole it is held, and
 * with it what must not overtake it. Owned by whoever embeds it.
 */
#ifndef MARGAY_WORKER_MCP_PARCEL_H
#define MARGAY_WORKER_MCP_PARCEL_H

#include <bsd/sys/queue.h>
#include <ev.h>

#include "common/buffer.h"
#include "common/ipc/broker_proto.h"

enum { PARCEL_STEP = 128 * 1024 }; /* bytes, some 50 microseconds */

struct parcels;

struct parcel {
	TAILQ_ENTRY(parcel) link;
	struct parcels *held; /* NULL: it may go */
	struct mail_box_id box;
	struct buffer text; /* all of a short one; of a long one what is not in the memfd yet */
	int fd;             /* of a long one, else -1 */
};

/* Those that are held, in the order in which they go. */
struct parcels {
	TAILQ_HEAD(parcel_list, parcel) list;
	struct ev_loop *loop;
	ev_timer turn; /* due in the next one */
	/* It is not held any more: it may go, or is lost with -errno. May release it. */
	void (*over)(struct parcels *held, struct parcel *p, int error);
	/* Nor is any other. */
	void (*idle)(struct parcels *held);
};

void parcels_init(struct parcels *held, struct ev_loop *loop,
    void (*over)(struct parcels *held, struct parcel *p, int error),
    void (*idle)(struct parcels *held));
/* Nothing goes any more. */
void parcels_stop(struct parcels *held);

/* It says nothing yet, to nobody. */
void parcel_init(struct parcel *p);
/* Say this, which fits a frame. 0 or -ENOMEM. */
int parcel_copy(struct parcel *p, struct span text) MUST_CHECK;
/* Say this, which may be long: then it is taken over. 0 or -errno: nothing was taken. */
int parcel_take(struct parcel *p, struct buffer *text) MUST_CHECK;
/* Hold it while it is not whole, or anything for its box is held; with `behind_all`, anything at
 * all. False: it may go now. */
bool parcels_hold(struct parcels *held, struct parcel *p, bool behind_all) MUST_CHECK;
void parcel_release(struct parcel *p);

#endif
