/* session_cache: see session_cache.h. */
#include "worker/mcp/session_cache.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <bsd/sys/queue.h>

/* Of thousands of sessions none is in the processor's cache: a chain of several costs more than the
 * rest of the look-up. */
#define HASH_BKT_CAPACITY_THRESH 2U
#include <uthash.h>

enum { SECOND_CHANCES = 32 /* for one that is to go */ };

struct session_entry {
	UT_hash_handle hh;
	TAILQ_ENTRY(session_entry) link;
	struct session_id id;
	uint8_t version;
	uint32_t idle_timeout, changes;
	uint32_t epoch;
	uint32_t touched; /* seconds of the worker's clock of touches */
	bool proved;      /* `mac` is right */
	bool used;        /* since it was put, or had its last chance */
	uint8_t mac[SESSION_MAC];
	size_t state; /* bytes */
	char text[];  /* route NUL upstream NUL upstream_session NUL state */
};

struct session_cache {
	struct session_entry *rows;
	TAILQ_HEAD(session_list, session_entry) list; /* the first is to go first */
	unsigned count;
	struct session_record expanded;
};

int session_cache_open(struct session_cache **out)
{
	struct session_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	TAILQ_INIT(&c->list);
	*out = c;
	return 0;
}

static void entry_drop(struct session_cache *c, struct session_entry *entry)
{
	HASH_DEL(c->rows, entry);
	TAILQ_REMOVE(&c->list, entry, link);
	c->count--;
	free(entry);
}

void session_cache_close(struct session_cache *c)
{
	while (!TAILQ_EMPTY(&c->list))
		entry_drop(c, TAILQ_FIRST(&c->list));
	free(c);
}

struct session_entry *session_cache_find(struct session_cache *c, const struct session_id *id)
{
	struct session_entry *entry;

	HASH_FIND(hh, c->rows, id, sizeof(*id), entry);
	/* Moving it would touch its neighbours in the list, too. */
	if (entry)
		entry->used = true;
	return entry;
}

/* One that was not used for long makes room. */
static void evict(struct session_cache *c)
{
	struct session_entry *entry = TAILQ_FIRST(&c->list);

	for (int chances = SECOND_CHANCES; chances > 0 && entry->used; chances--) {
		entry->used = false;
		TAILQ_REMOVE(&c->list, entry, link);
		TAILQ_INSERT_TAIL(&c->list, entry, link);
		entry = TAILQ_FIRST(&c->list);
	}
	entry_drop(c, entry);
}

void session_cache_drop(struct session_cache *c, const struct session_id *id)
{
	struct session_entry *entry = session_cache_find(c, id);

	if (entry)
		entry_drop(c, entry);
}

void session_cache_put(struct session_cache *c, const struct session_record *record, uint32_t epoch)
{
	size_t route = strlen(record->route) + 1, upstream = strlen(record->upstream) + 1;
	size_t session = strlen(record->upstream_session) + 1;

	session_cache_drop(c, &record->id);
	if (c->count == SESSION_CACHE_MAX)
		evict(c);
	struct session_entry *entry =
	    calloc(1, sizeof(*entry) + route + upstream + session + record->state.n);
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
	entry->state = record->state.n;
	if (record->state.n > 0)
		memcpy(entry->text + route + upstream + session, record->state.p, record->state.n);
	HASH_ADD(hh, c->rows, id, sizeof(entry->id), entry);
	TAILQ_INSERT_TAIL(&c->list, entry, link);
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
