/* session_cache: when the broker hears that a session is used. */
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
