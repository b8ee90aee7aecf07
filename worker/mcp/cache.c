/* cache: see cache.h. */
#include "worker/mcp/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <bsd/sys/queue.h>
#include <uthash.h>

#include "common/clock.h"
#include "common/raw.h"
#include "worker/upstream/upstream.h"

enum { KEY_MAX = 65536 };

static const double ttl_max = 86400; /* seconds */

struct entry {
	UT_hash_handle hh;
	TAILQ_ENTRY(entry) link; /* used last comes last */
	const struct upstream *upstream;
	const struct mcp_method *method;
	double until; /* clock_coarse() */
	size_t key_length, length;
	char text[]; /* key, result without ttlMs */
};

struct cache {
	struct entry *by_key;
	TAILQ_HEAD(entries, entry) used;
	size_t size, bytes;
};

int cache_open(size_t size, struct cache **out)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->size = size;
	TAILQ_INIT(&c->used);
	*out = c;
	return 0;
}

static size_t weight(const struct entry *e)
{
	return sizeof(*e) + e->key_length + e->length;
}

static void drop(struct cache *c, struct entry *e)
{
	HASH_DEL(c->by_key, e);
	TAILQ_REMOVE(&c->used, e, link);
	c->bytes -= weight(e);
	free(e);
}

void cache_close(struct cache *c)
{
	while (!TAILQ_EMPTY(&c->used))
		drop(c, TAILQ_FIRST(&c->used));
	free(c);
}

void cache_key(struct compose *key, const struct upstream *u, const struct envelope *e,
    struct span capabilities)
{
	static const char *const meta[] = {"_meta", NULL};

	if (envelope_member(e, e->params, "inputResponses").p ||
	    envelope_member(e, e->params, "requestState").p)
		return;
	key->index = &e->index;
	compose_raw(key, span_of(u->config->name));
	compose_raw(key, SPAN("\n"));
	compose_raw(key, e->method);
	compose_raw(key, SPAN("\n"));
	compose_raw(key, capabilities);
	compose_open(key, '{');
	if (e->params.p)
		compose_members(key, e->params, meta);
	compose_close(key, '}');
}

/* Seconds that a result may be kept; 0: not at all. */
static double ttl_of(struct span result)
{
	struct span type, ttl, scope;
	double milliseconds = 0;

	if ((raw_member(result, "resultType", &type) && !span_equal(type, SPAN("\"complete\""))) ||
	    !raw_member(result, "cacheScope", &scope) || !span_equal(scope, SPAN("\"public\"")) ||
	    !raw_member(result, "ttlMs", &ttl) || ttl.n > 18 || !raw_is_integer(ttl))
		return 0;
	milliseconds = (double)strtoll(ttl.p, NULL, 10);
	return milliseconds / 1000 < ttl_max ? milliseconds / 1000 : ttl_max;
}

static struct entry *find(const struct cache *c, struct span key)
{
	struct entry *e;

	HASH_FIND(hh, c->by_key, key.p, (unsigned)key.n, e);
	return e;
}

void cache_put(struct cache *c, const struct upstream *u, const struct mcp_method *method,
    struct span key, struct span result)
{
	static const char *const ttl[] = {"ttlMs", NULL};
	double seconds = key.n > 0 && key.n <= KEY_MAX ? ttl_of(result) : 0;
	struct buffer kept = {0};
	struct compose members = {.out = &kept, .bound = c->size / 4};
	struct entry *e = find(c, key);

	if (e)
		drop(c, e);
	if (seconds <= 0)
		return;
	compose_members(&members, result, ttl);
	struct span text = buffer_span(&kept);
	e = members.error ? NULL : malloc(sizeof(*e) + key.n + text.n);
	if (e) {
		*e = (struct entry){.upstream = u,
		    .method = method,
		    .until = clock_coarse() + seconds,
		    .key_length = key.n,
		    .length = text.n};
		memcpy(e->text, key.p, key.n);
		memcpy(e->text + key.n, text.p, text.n);
		HASH_ADD_KEYPTR(hh, c->by_key, e->text, (unsigned)key.n, e);
		TAILQ_INSERT_TAIL(&c->used, e, link);
		c->bytes += weight(e);
	}
	buffer_release(&kept);
	while (c->bytes > c->size)
		drop(c, TAILQ_FIRST(&c->used));
}

bool cache_get(struct cache *c, struct span key, struct compose *out)
{
	struct entry *e = key.n > 0 ? find(c, key) : NULL;
	double left = e ? e->until - clock_coarse() : 0;

	if (e && left <= 0)
		drop(c, e);
	if (left <= 0)
		return false;
	TAILQ_REMOVE(&c->used, e, link);
	TAILQ_INSERT_TAIL(&c->used, e, link);
	compose_open(out, '{');
	compose_raw(out, (struct span){e->text + e->key_length, e->length});
	out->comma = e->length > 0;
	compose_integer(out, "ttlMs", (long long)(left * 1000));
	compose_close(out, '}');
	return true;
}

void cache_hear(struct cache *c, const struct upstream *u, const struct envelope *e)
{
	static const struct {
		struct span notification, beginning; /* of the methods that it concerns */
	} rows[] = {
	    {{"notifications/tools/list_changed", 32}, {"tools/", 6}},
	    {{"notifications/prompts/list_changed", 34}, {"prompts/", 8}},
	    {{"notifications/resources/list_changed", 36}, {"resources/", 10}},
	    {{"notifications/resources/updated", 31}, {"resources/read", 14}},
	};
	struct entry *one, *next;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!span_equal(rows[i].notification, e->method))
			continue;
		TAILQ_FOREACH_SAFE (one, &c->used, link, next) {
			struct span name = one->method->name, beginning = rows[i].beginning;
			if (one->upstream == u && name.n >= beginning.n &&
			    memcmp(name.p, beginning.p, beginning.n) == 0)
				drop(c, one);
		}
	}
}
