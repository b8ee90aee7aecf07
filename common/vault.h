/*
 * vault: descriptors that the master holds for the keeper, so that children outlive it.
 *
 * The keeper fills it over its channel (CHANNEL_KEEP, CHANNEL_FORGET); the keeper that comes after
 * inherits it by fork and takes the children over. The master never looks into what it holds.
 */
#ifndef MARGAY_COMMON_VAULT_H
#define MARGAY_COMMON_VAULT_H

#include <stddef.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/ipc/frame.h"

struct vault_entry {
	uint64_t key;
	unsigned count;
	int fds[FRAME_FDS_MAX];
};

struct vault {
	struct vault_entry *rows;
	size_t count, capacity;
};

/* Take the descriptors, in the place of those under the same key. On -ENOMEM they are closed. */
int vault_put(struct vault *v, uint64_t key, const int *fds, unsigned count) MUST_CHECK;
/* Close those under this key, if any. */
void vault_drop(struct vault *v, uint64_t key);
void vault_close(struct vault *v);

#endif
