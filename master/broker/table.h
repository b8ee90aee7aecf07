/*
 * table: the sessions that the broker holds.
 *
 * Owns every session, found by id and expired by last use. A session is one allocation around its
 * record in wire form (common/ipc/broker_proto.h), which goes as it is into replies and into the
 * journal. Sessions of equal idle timeout share one FIFO list, so expiry is O(1).
 */
#ifndef MARGAY_MASTER_BROKER_TABLE_H
#define MARGAY_MASTER_BROKER_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <bsd/sys/queue.h>

/* Out of memory must refuse one session, not end the broker. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "common/attributes.h"
#include "common/ipc/broker_proto.h"

struct table_fifo;

struct session {
	UT_hash_handle hh; /* insertion order, which the journal's compaction relies on */
	TAILQ_ENTRY(session) link;
	struct table_fifo *fifo;
	double used;     /* loop time of the last use */
	uint64_t cached; /* bit per client that may hold the record in its cache */
	size_t length;
	char record[]; /* wire form; the id comes first */
};

struct table {
	struct session *by_id;
	LIST_HEAD(table_fifos, table_fifo) fifos;
	size_t bytes; /* of all records */
};

void table_init(struct table *t);
void table_close(struct table *t);
size_t table_count(const struct table *t);
struct session *table_find(const struct table *t, const struct session_id *id);
/* Add a session used at `now`; *out is the table's. 0, -EEXIST with *out the one there is, -ENOMEM.
 */
int table_add(struct table *t, const struct session_record *record, double now,
    struct session **out) MUST_CHECK;
void table_touch(struct session *s, double now);
/* A session that was idle for its whole timeout, and for as long as a use may have gone untold; or
 * NULL. */
struct session *table_expired(const struct table *t, double now);
/* Frees the session. */
void table_remove(struct table *t, struct session *s);
struct session_id session_key(const struct session *s);

#endif
