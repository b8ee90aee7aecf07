/*
 * manifest: all that a master owns, as records which another process can hold or take over.
 *
 * A record is a kind, a key, a few bytes and the descriptors that belong to them. The master keeps
 * the one that is true; the broker holds a copy in case that the master dies (it learns each change
 * at once); an upgrade hands it to the next master. What was told to whom is marked in the record,
 * so only what changed is told again.
 *
 * Frames are those of frame.h: ANEW (forget what you know), PUT (target: key; payload: u8 kind,
 * body; its descriptors), DROP (target: key; payload: u8 kind), END (payload: u32 version, u32 how
 * many records there are now).
 */
#ifndef MARGAY_COMMON_IPC_MANIFEST_H
#define MARGAY_COMMON_IPC_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/ipc/frame.h"
#include "common/span.h"

/* A master and a holder of different versions don't understand each other. */
#ifndef MARGAY_MANIFEST_VERSION
#define MARGAY_MANIFEST_VERSION 1
#endif

enum { MANIFEST_BODY_MAX = 8192 };
/* In the key of a listener: from this bit on, what is to be known of it (enum listeners_state). */
enum { MANIFEST_STATE_SHIFT = 32 };

enum manifest_kind {
	MANIFEST_STATE = 1,   /* numbers of the master itself */
	MANIFEST_SESSION_KEY, /* its bytes */
	MANIFEST_METRICS,
	MANIFEST_JOURNAL, /* both */
	MANIFEST_CHILDREN_FILE,
	MANIFEST_BROKER_SOCKET,
	MANIFEST_KEEPER_SOCKET,
	MANIFEST_CONTROL_SOCKET,
	MANIFEST_LISTENER,   /* body: address as text; its slots in their order */
	MANIFEST_GENERATION, /* key: its number; memfd of its configuration */
	MANIFEST_PROCESS,    /* worker, broker or keeper: channel, pidfd */
	MANIFEST_CHILD,      /* key: of the vault; what the keeper keeps of a child there */
	MANIFEST_KIND_COUNT
};

/* Frame types beside those of channel.h. */
enum manifest_frame { MANIFEST_ANEW = 64, MANIFEST_PUT, MANIFEST_DROP, MANIFEST_END };

/* Who is told. */
enum manifest_reader { MANIFEST_HOLDER = 1, MANIFEST_HEIR = 2 };

struct manifest_record {
	uint8_t kind;
	uint8_t told; /* enum manifest_reader: up to date with it */
	uint8_t held; /* ...: has it, maybe as it was before */
	bool owned;   /* the descriptors are closed with the record */
	bool stale;   /* not put again since manifest_begin */
	uint64_t key;
	unsigned count;
	int fds[FRAME_FDS_MAX];
	size_t length;
	char *body;
};

struct manifest_drop {
	uint8_t kind, untold; /* who has the record and does not know */
	uint64_t key;
};

struct manifest {
	struct manifest_record *rows;
	size_t count, capacity;
	struct manifest_drop *drops;
	size_t drop_count, drop_capacity;
	uint8_t anew, ended; /* enum manifest_reader: forgets first; has heard the END */
};

/*
 * The whole is written anew: begin, put all that there is, sweep what was not put again. Children
 * (MANIFEST_CHILD) are left out of this: they are put and dropped one by one.
 */
void manifest_begin(struct manifest *m);
void manifest_sweep(struct manifest *m);
/*
 * Put a record, in the place of the one with this kind and key. The descriptors stay the caller's,
 * who drops the record before it closes them. 0 or -ENOMEM: then it is as if it were not there.
 */
int manifest_put(struct manifest *m, enum manifest_kind kind, uint64_t key, struct span body,
    const int *fds, unsigned count) MUST_CHECK;
void manifest_drop(struct manifest *m, enum manifest_kind kind, uint64_t key);
/* NULL: none. Valid until the next change. */
struct manifest_record *manifest_find(
    const struct manifest *m, enum manifest_kind kind, uint64_t key);
/* A descriptor is the caller's from now on; the record has -1 in its place. */
int manifest_steal(struct manifest_record *r, unsigned i);
void manifest_steal_all(struct manifest_record *r);
void manifest_close(struct manifest *m);

/* A new reader is there, who knows nothing. */
void manifest_unread(struct manifest *m, enum manifest_reader reader);
/* It is told END once more, after what has changed since the last one. */
void manifest_reopen(struct manifest *m, enum manifest_reader reader);
/* Tell what it does not know yet, and then END. 0: it knows all; -EAGAIN: more when the socket
 * takes more; -EPIPE...: it is gone. */
int manifest_tell(struct manifest *m, enum manifest_reader reader, int socket) MUST_CHECK;
/*
 * The other side: take a PUT or DROP; the descriptors are taken in every case. END says whether
 * all is there. 0; 1: it was a good END; -EPROTO, -EBADMSG (another version), -ENOMEM.
 */
int manifest_take(struct manifest *m, const struct frame *frame, const char *payload,
    const int *fds, unsigned count) MUST_CHECK;

#endif
