/* cache: what is kept, for how long, and in how much memory. */
#include "worker/mcp/cache.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "worker/upstream/upstream.h"

static struct config_upstream config = {.name = "up"};
static struct upstream upstream = {.config = &config};
static struct cache *cache;

static const char *result_of(const char *key)
{
	static char text[4096];
	struct buffer out = {0};
	struct compose c = {.out = &out, .bound = sizeof(text)};
	bool found = cache_get(cache, span_of(key), &c);

	snprintf(text, sizeof(text), "%.*s", (int)buffer_length(&out), buffer_span(&out).p);
	buffer_release(&out);
	return found ? text : NULL;
}

static void put(const char *key, const char *method, const char *result)
{
	cache_put(
	    cache, &upstream, mcp_method_find(span_of(method)), span_of(key), span_of(result));
}

Test(cache, keeps_only_what_everybody_may_have)
{
	static const struct {
		const char *result;
		bool kept;
	} rows[] = {
	    {"{\"resultType\":\"complete\",\"ttlMs\":60000,\"cacheScope\":\"public\"}", true},
	    {"{\"ttlMs\":60000,\"cacheScope\":\"public\"}", true},
	    {"{\"ttlMs\":60000,\"cacheScope\":\"private\"}", false},
	    {"{\"ttlMs\":60000}", false},
	    {"{\"cacheScope\":\"public\"}", false},
	    {"{\"ttlMs\":0,\"cacheScope\":\"public\"}", false},
	    {"{\"ttlMs\":-5,\"cacheScope\":\"public\"}", false},
	    {"{\"ttlMs\":\"9\",\"cacheScope\":\"public\"}", false},
	    {"{\"ttlMs\":1e9,\"cacheScope\":\"public\"}", false},
	    {"{\"resultType\":\"input_required\",\"ttlMs\":60000,\"cacheScope\":\"public\"}",
		false},
	};

	cr_assert_eq(cache_open(65536, &cache), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		put("key", "tools/list", rows[i].result);
		cr_expect_eq(result_of("key") != NULL, rows[i].kept, "%s", rows[i].result);
	}
	cache_close(cache);
}

Test(cache, is_bounded_and_the_longest_unused_goes_first)
{
	char key[16], result[512];

	snprintf(result, sizeof(result),
	    "{\"ttlMs\":60000,\"cacheScope\":\"public\",\"text\":\"%0400d\"}", 0);
	cr_assert_eq(cache_open(8192, &cache), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(key, sizeof(key), "key %d", i);
		put(key, "tools/list", result);
		cr_assert_not_null(result_of("key 0"), "used each time");
	}
	cr_expect_not_null(result_of("key 99"));
	cr_expect_null(result_of("key 1"));
	cache_close(cache);
}

Test(cache, forgets_what_changed)
{
	static const char result[] = "{\"ttlMs\":60000,\"cacheScope\":\"public\"}";
	struct envelope changed = {.method = SPAN("notifications/resources/list_changed")};
	struct upstream other = {.config = &config};

	cr_assert_eq(cache_open(65536, &cache), 0);
	put("t", "tools/list", result);
	put("r", "resources/list", result);
	put("x", "resources/templates/list", result);
	cache_hear(cache, &other, &changed);
	cr_expect_not_null(result_of("r"));
	cache_hear(cache, &upstream, &changed);
	cr_expect_not_null(result_of("t"));
	cr_expect_null(result_of("r"));
	cr_expect_null(result_of("x"));
	cache_close(cache);
}
