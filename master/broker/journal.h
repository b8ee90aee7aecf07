/*
 * journal: what the broker must remember when it dies, in two memfds that the master holds.
 *
 * One file is active: the one with a valid header and the higher sequence number. Creates and ends
 * are appended as CRC32C-framed records; a touch is not, a replayed session counts as just used.
 * When the active file is mostly dead records, the live sessions are copied into the other file in
 * budgeted steps, its header is written last and the old file is truncated: a kill -9 at any
 * instant leaves one complete file. Replay stops at the first bad record and truncates there.
 * The descriptors stay the caller's.
 */
#ifndef MARGAY_MASTER_BROKER_JOURNAL_H
#define MARGAY_MASTER_BROKER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/role.h"
#include "master/broker/table.h"

enum {
	JOURNAL_COMPACT_FROM = 1 << 20, /* bytes; a smaller file is never compacted */
	JOURNAL_STEP =
	    256 << 10, /* bytes copied by one step: at most 8 ms (measured with 100,000 sessions) */
};

struct journal {
	int fds[JOURNAL_COUNT];
	size_t active; /* index into fds */
	uint64_t sequence;
	size_t offset; /* of the next record in the active file */
	bool compacting;
	size_t copy_offset;     /* of the next record in the other file */
	struct session *cursor; /* the next one to copy; NULL: all are copied */
};

/* Choose the active file and add its sessions to the empty `t`, used at `now` and possibly cached
 * by every client. 0 or -errno. */
int journal_open(
    struct journal *j, const int fds[JOURNAL_COUNT], struct table *t, double now) MUST_CHECK;
/* The session was added to the table; it takes the place of an earlier one of its id. 0 or -errno
 * (-ENOSPC): then it must not be confirmed. */
int journal_create(struct journal *j, struct session *s) MUST_CHECK;
/* The session is about to leave the table. 0 or -errno: after a crash it would come back. Whatever
 * the result, the journal no longer knows `s`. */
int journal_end(struct journal *j, const struct session *s) MUST_CHECK;
/* The session is about to leave the table, and its successor of the same id is created next. */
void journal_forget(struct journal *j, const struct session *s);
/* Do one step of compaction if it is worth it. True when there is more to do. */
bool journal_compact(struct journal *j, const struct table *t);

#endif
