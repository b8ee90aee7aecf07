/* session_cache: who stays, and when the broker hears that a session is used. */
#include "worker/mcp/session_cache.h"

#include <criterion/criterion.h>

/* Once for each part of its idle timeout, and never twice in a second. */
static unsigned told(uint32_t idle_timeout, uint32_t seconds, unsigned uses_a_second)
{
	struct session_record record = {.id = {{1}}, .idle_timeout = idle_timeout, .route = "/mcp"};
	struct session_cache *cache;
	unsigned count = 0;

	cr_assert_eq(session_cache_open(&cache), 0);
	session_cache_put(cache, &record, 1);
	struct session_entry *entry = session_cache_find(cache, &record.id);
	cr_assert_not_null(entry);
	for (uint32_t second = 1000; second < 1000 + seconds; second++) {
		for (unsigned i = 0; i < uses_a_second; i++)
			count += session_entry_touch(entry, second);
	}
	session_cache_close(cache);
	return count;
}

Test(session_cache, the_broker_hears_of_a_use_once_in_a_part_of_the_idle_timeout)
{
	cr_assert_eq(told(1800, 1792, 10), 32);
	cr_assert_eq(told(64, 64, 10), 32);
}

Test(session_cache, the_broker_hears_of_a_use_once_a_second_at_most)
{
	cr_assert_eq(told(1, 50, 100), 50);
}

/* The id of a number. */
static struct session_id numbered(uint32_t number)
{
	struct session_id id = {0};

	memcpy(id.bytes + SESSION_ID_HEAD, &number, sizeof(number));
	return id;
}

Test(session_cache, who_was_used_outlives_who_was_not)
{
	struct session_record record = {.idle_timeout = 60};
	struct session_cache *cache;

	cr_assert_eq(session_cache_open(&cache), 0);
	for (uint32_t i = 0; i < SESSION_CACHE_MAX; i++) {
		record.id = numbered(i);
		session_cache_put(cache, &record, 1);
	}
	struct session_id used = numbered(0), unused = numbered(1), last = numbered(UINT32_MAX);
	cr_assert_not_null(session_cache_find(cache, &used));
	record.id = last;
	session_cache_put(cache, &record, 1);
	cr_assert_not_null(session_cache_find(cache, &used));
	cr_assert_null(session_cache_find(cache, &unused));
	cr_assert_not_null(session_cache_find(cache, &last));
	session_cache_close(cache);
}

/* Where all were used, one goes without a look at each. */
Test(session_cache, one_goes_where_all_were_used)
{
	struct session_record record = {.idle_timeout = 60};
	struct session_cache *cache;
	unsigned left = 0;

	cr_assert_eq(session_cache_open(&cache), 0);
	for (uint32_t i = 0; i < SESSION_CACHE_MAX; i++) {
		record.id = numbered(i);
		session_cache_put(cache, &record, 1);
		cr_assert_not_null(session_cache_find(cache, &record.id));
	}
	record.id = numbered(UINT32_MAX);
	session_cache_put(cache, &record, 1);
	for (uint32_t i = 0; i < SESSION_CACHE_MAX; i++) {
		struct session_id id = numbered(i);
		left += session_cache_find(cache, &id) != NULL;
	}
	cr_assert_eq(left, SESSION_CACHE_MAX - 1);
	/* It had its chance; after a look at each, the first would have gone. */
	struct session_id first = numbered(0);
	cr_assert_not_null(session_cache_find(cache, &first));
	session_cache_close(cache);
}

/* All want the same few slots, the last of them too, so that chains go over the end. */
Test(session_cache, those_of_one_hash_are_told_apart_whoever_goes)
{
	enum { CROWD = 64 };
	struct session_record record = {.idle_timeout = 60};
	struct session_cache *cache;
	struct session_id ids[CROWD];

	cr_assert_eq(session_cache_open(&cache), 0);
	for (uint32_t i = 0; i < CROWD; i++) {
		ids[i] = numbered(2 * SESSION_CACHE_MAX - 3 + i / 8);
		ids[i].bytes[SESSION_ID_BYTES - 1] = (uint8_t)i;
		record.id = ids[i];
		session_cache_put(cache, &record, i);
	}
	for (uint32_t gone = 0; gone < CROWD; gone++) {
		session_cache_drop(cache, &ids[gone * 37 % CROWD]);
		for (uint32_t i = 0; i < CROWD; i++) {
			uint32_t at = i * 37 % CROWD;
			struct session_entry *entry = session_cache_find(cache, &ids[at]);
			cr_assert_eq(entry != NULL, i > gone, "%u after %u", at, gone);
			cr_assert(!entry || session_entry_epoch(entry) == at);
		}
	}
	session_cache_close(cache);
}
