/*
 * channel: what the master and one child say to each other over their SEQPACKET pair.
 *
 * End of file on a channel means that the other side is dead. Frames as in frame.h; types below.
 */
#ifndef MARGAY_COMMON_IPC_CHANNEL_H
#define MARGAY_COMMON_IPC_CHANNEL_H

#include <stdint.h>

enum channel_type {
	/* child to master */
	CHANNEL_READY = 1,         /* serving is possible; payload struct channel_generation */
	CHANNEL_STOPPED_ACCEPTING, /* answer to DRAIN: no slot is watched any more */
	/* keeper to master */
	CHANNEL_KEEP,   /* target is the key: hold these descriptors (common/vault.h) */
	CHANNEL_FORGET, /* target is the key */
	CHANNEL_REPORT, /* answer to ASK, with a descriptor of its text: JSON */
	/* master to child */
	CHANNEL_ACCEPT,  /* all of the generation is READY: start accepting from your slots */
	CHANNEL_DRAIN,   /* stop accepting, finish what is in flight, then exit 0; payload struct
			    channel_drain, or none */
	CHANNEL_STOP,    /* exit at once */
	CHANNEL_ADOPT,   /* payload struct channel_slot: accept from this slot too */
	CHANNEL_RELEASE, /* payload struct channel_slot: no longer */
	CHANNEL_LAST, /* no generation follows: clients that were asked something can't come back */
	CHANNEL_LOG,  /* with a descriptor: log there from now on */
	/* master to keeper */
	CHANNEL_CONFIG,  /* with a descriptor: the file's bytes that serve from now on */
	CHANNEL_ASK,     /* request is echoed by REPORT */
	CHANNEL_RESTART, /* payload is an upstream's name: new children for it; answered by REPORT
			  */
	/* between broker or keeper and master */
	CHANNEL_RETIRE, /* to child: leave all to the one that follows, then exit 0 */
	CHANNEL_LEAVE,  /* from child: for the one that follows (common/handover.h); target is the
			   key */
	/* master to broker */
	CHANNEL_SESSIONS_MAX, /* payload u32: as many sessions from now on, at most */
	CHANNEL_SILENT, /* payload i32: this process does not turn, what is under way there is lost
			 */
};

struct channel_generation {
	uint32_t generation;
};

struct channel_drain {
	uint32_t leaving; /* bit of each listener that nobody serves any more: empty its queue */
};

struct channel_slot {
	uint32_t slot; /* 0..LISTENER_SLOTS-1, of every address */
};

#endif
