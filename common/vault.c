/* vault: see vault.h. */
#include "common/vault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct vault_entry *find(struct vault *v, uint64_t key)
{
	for (size_t i = 0; i < v->count; i++) {
		if (v->rows[i].key == key)
			return &v->rows[i];
	}
	return NULL;
}

static void close_fds(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

static struct vault_entry *add(struct vault *v, uint64_t key)
{
	if (v->count == v->capacity) {
		size_t capacity = v->capacity > 0 ? 2 * v->capacity : 64;
		struct vault_entry *rows = realloc(v->rows, capacity * sizeof(*rows));
		if (!rows)
			return NULL;
		v->rows = rows;
		v->capacity = capacity;
	}
	struct vault_entry *entry = &v->rows[v->count++];
	*entry = (struct vault_entry){.key = key};
	return entry;
}

int vault_put(struct vault *v, uint64_t key, const int *fds, unsigned count)
{
	struct vault_entry *entry = find(v, key);

	if (!entry && !(entry = add(v, key))) {
		close_fds(fds, count);
		return -ENOMEM;
	}
	close_fds(entry->fds, entry->count);
	entry->count = count;
	memcpy(entry->fds, fds, count * sizeof(*fds));
	return 0;
}

void vault_drop(struct vault *v, uint64_t key)
{
	struct vault_entry *entry = find(v, key);

	if (!entry)
		return;
	close_fds(entry->fds, entry->count);
	*entry = v->rows[--v->count];
}

void vault_close(struct vault *v)
{
	for (size_t i = 0; i < v->count; i++)
		close_fds(v->rows[i].fds, v->rows[i].count);
	free(v->rows);
	*v = (struct vault){0};
}
