/* session_cache: see session_cache.h. */
#include "worker/mcp/session_cache.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

enum {
	SLOTS = 2 * SESSION_CACHE_MAX,
	SECOND_CHANCES = 32 /* for one that is to go */
};

struct session_entry {
	struct session_id id;
	uint8_t version;
	bool proved; /* `mac` is right */
	bool used;   /* since it was put, or had its last chance */
	uint8_t mac[SESSION_MAC];
	uint32_t touched; /* seconds of the worker's clock of touches */
	uint32_t idle_timeout, changes;
	uint32_t epoch;
	uint32_t state; /* bytes */
	char text[];    /* route NUL upstream NUL upstream_session NUL state */
};

/*
 * Of thousands of sessions none is in the processor's cache: what a look-up costs is how many lines
 * of it are needed, and how many all sessions take. Open addressing with linear probing needs one
 * beside those of the entry, and no links in that. At most half of the slots are taken.
 */
struct session_cache {
	struct session_entry *slots[SLOTS];
	unsigned count;
	size_t hand; /* the first slot to look at for one that is to go */
	struct session_record expanded;
};

int session_cache_open(struct session_cache **out)
{
	struct session_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	*out = c;
	return 0;
}

static size_t next_slot(size_t slot)
{
	return (slot + 1) % SLOTS;
}

/* An id is random enough to be its own hash. */
static size_t home_of(const struct session_id *id)
{
	uint32_t hash;

	memcpy(&hash, id->bytes + SESSION_ID_HEAD, sizeof(hash));
	return hash % SLOTS;
}

/* Where it is, or else the empty slot where it would be. */
static size_t slot_of(const struct session_cache *c, const struct session_id *id)
{
	size_t slot = home_of(id);

	while (c->slots[slot] && memcmp(&c->slots[slot]->id, id, sizeof(*id)) != 0)
		slot = next_slot(slot);
	return slot;
}

/* Those behind it that could not have its slot move up: no search may meet a hole on its way. */
static void slot_drop(struct session_cache *c, size_t hole)
{
	free(c->slots[hole]);
	c->count--;
	for (size_t slot = next_slot(hole); c->slots[slot]; slot = next_slot(slot)) {
		size_t home = home_of(&c->slots[slot]->id);
		if ((slot - home) % SLOTS < (slot - hole) % SLOTS)
			continue;
		c->slots[hole] = c->slots[slot];
		hole = slot;
	}
	c->slots[hole] = NULL;
}

void session_cache_close(struct session_cache *c)
{
	for (size_t slot = 0; slot < SLOTS; slot++)
		free(c->slots[slot]);
	free(c);
}

struct session_entry *session_cache_find(struct session_cache *c, const struct session_id *id)
{
	struct session_entry *entry = c->slots[slot_of(c, id)];

	/* What is only read need not be written back. */
	if (entry && !entry->used)
		entry->used = true;
	return entry;
}

/* One that was not used for long makes room. */
static void evict(struct session_cache *c)
{
	for (int chances = SECOND_CHANCES;; c->hand = next_slot(c->hand)) {
		struct session_entry *entry = c->slots[c->hand];
		if (!entry)
			continue;
		if (!entry->used || chances-- == 0)
			break;
		entry->used = false;
	}
	slot_drop(c, c->hand);
}

void session_cache_drop(struct session_cache *c, const struct session_id *id)
{
	size_t slot = slot_of(c, id);

	if (c->slots[slot])
		slot_drop(c, slot);
}

void session_cache_put(struct session_cache *c, const struct session_record *record, uint32_t epoch)
{
	size_t route = strlen(record->route) + 1, upstream = strlen(record->upstream) + 1;
	size_t session = strlen(record->upstream_session) + 1;
	struct session_entry *entry;

	session_cache_drop(c, &record->id);
	if (c->count == SESSION_CACHE_MAX)
		evict(c);
	entry = calloc(1, sizeof(*entry) + route + upstream + session + record->state.n);
	if (!entry)
		return;
	entry->id = record->id;
	entry->version = record->version;
	entry->idle_timeout = record->idle_timeout;
	entry->changes = record->changes;
	entry->epoch = epoch;
	memcpy(entry->text, record->route, route);
	memcpy(entry->text + route, record->upstream, upstream);
	memcpy(entry->text + route + upstream, record->upstream_session, session);
	entry->state = (uint32_t)record->state.n;
	if (record->state.n > 0)
		memcpy(entry->text + route + upstream + session, record->state.p, record->state.n);
	c->slots[slot_of(c, &entry->id)] = entry;
	c->count++;
}

const struct session_record *session_entry_expand(
    struct session_cache *c, const struct session_entry *entry)
{
	struct session_record *r = &c->expanded;
	const char *text = entry->text;

	r->id = entry->id;
	r->version = entry->version;
	r->idle_timeout = entry->idle_timeout;
	r->changes = entry->changes;
	text = stpcpy(r->route, text) - r->route + text + 1;
	text = stpcpy(r->upstream, text) - r->upstream + text + 1;
	text = stpcpy(r->upstream_session, text) - r->upstream_session + text + 1;
	r->state = (struct span){text, entry->state};
	return r;
}

uint32_t session_entry_epoch(const struct session_entry *entry)
{
	return entry->epoch;
}

bool session_entry_touch(struct session_entry *entry, uint32_t seconds)
{
	uint32_t since = seconds - entry->touched;

	if (since == 0 || since < entry->idle_timeout / BROKER_TOUCH_PARTS)
		return false;
	entry->touched = seconds;
	return true;
}

bool session_entry_has_mac(const struct session_entry *entry, const uint8_t mac[SESSION_MAC])
{
	return entry->proved && CRYPTO_memcmp(entry->mac, mac, SESSION_MAC) == 0;
}

void session_entry_keep_mac(struct session_entry *entry, const uint8_t mac[SESSION_MAC])
{
	memcpy(entry->mac, mac, SESSION_MAC);
	entry->proved = true;
}
