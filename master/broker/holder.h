/*
 * holder: the broker's copy of the master's manifest, for the case that the master dies.
 *
 * The copy holds the master's end of every channel, this broker's own among them: so no process
 * sees the master's death, and all go on. A new master with the same runtime_dir asks for the copy
 * (BROKER_INHERIT) and is the master from then on. When none has come within orphan_timeout the
 * copy is closed: every process then sees the end of its channel, drains and ends.
 *
 * The copy changes with an END and never before: whenever a master dies, it is one that was true.
 */
#ifndef MARGAY_MASTER_BROKER_HOLDER_H
#define MARGAY_MASTER_BROKER_HOLDER_H

#include <ev.h>
#include <stdbool.h>
#include <bsd/sys/queue.h>

#include "common/ipc/manifest.h"
#include "common/log.h"

/* A frame that waits for its END. */
struct holder_frame {
	STAILQ_ENTRY(holder_frame) link;
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;
	char payload[];
};

struct holder {
	struct ev_loop *loop;
	struct log *log;
	struct manifest manifest;
	STAILQ_HEAD(, holder_frame) coming;
	bool whole; /* something is held, and all of it */
	pid_t master;
	int pidfd; /* of the master; -1: not watched */
	bool dead; /* the master */
	ev_io death, heir;
	ev_timer orphan;
};

/* Watch over our parent. 0 or -errno. */
int holder_open(struct holder *h, struct ev_loop *loop, struct log *log) MUST_CHECK;
void holder_close(struct holder *h);
/* A frame of the master's (enum manifest_frame). The descriptors are taken. */
void holder_take(struct holder *h, const struct frame *frame, const char *payload, const int *fds,
    unsigned count);
/* Somebody wants to be the master. True when it may: it is sent everything over `fd`, which is
 * taken. */
bool holder_serve(struct holder *h, int fd);

#endif
