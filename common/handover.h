/*
 * handover: what a process that makes room for another of its kind leaves to it.
 *
 * Records and descriptors, held by the master in between (CHANNEL_LEAVE) and inherited by fork. A
 * record is a fixed head and some texts. It may be written by another version than the one that
 * reads it: types and members at the end of a head may be added; a reader skips types that it does
 * not know and finds zeros in members that were not written. Without memory, or with more than can
 * be told to the master now, nothing is left and the process goes on.
 */
#ifndef MARGAY_COMMON_HANDOVER_H
#define MARGAY_COMMON_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/vault.h"

enum { HANDOVER_TEXTS_MAX = 6, HANDOVER_TEXT = 0 /* key of the records; they are sent last */ };

struct handover {
	struct buffer records;
	int *fds; /* the owner's; see handover_fd */
	unsigned count, capacity;
	bool failed;
};

void handover_put(struct handover *h, uint16_t type, const void *head, size_t head_size,
    const struct span *texts, unsigned count);
/* The number by which a record names a descriptor, which stays the caller's; -1 of -1. */
int32_t handover_fd(struct handover *h, int fd);
/* Give all to the master over our channel. 0: the process must end now; else -errno: it goes on. */
int handover_leave(struct handover *h, int channel) MUST_CHECK;
void handover_release(struct handover *h);

/* Whether all was left that is to be taken over. */
bool handover_complete(const struct vault *left);

struct handover_record {
	uint16_t type;
	unsigned count;
	struct span head, texts[HANDOVER_TEXTS_MAX];
};

struct handover_reader {
	struct vault *left;
	struct span all, rest;
};

/* Read what was left, and own it. False when there is nothing; what there is of it is closed. */
bool handover_open(struct handover_reader *r, struct vault *left) MUST_CHECK;
/* The next record, valid until the end; false after the last. */
bool handover_next(struct handover_reader *r, struct handover_record *record) MUST_CHECK;
void handover_head(const struct handover_record *record, void *head, size_t size);
/* The descriptor of this number: from now on the caller's. -1: none. */
int handover_take(const struct handover_reader *r, int32_t number);
/* Close the records, and the descriptors that nobody took. */
void handover_close(struct handover_reader *r);

#endif
