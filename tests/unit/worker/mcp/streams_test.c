/* streams: a session's streams are bounded and forgotten with the last. */
#include "worker/mcp/streams.h"

#include <criterion/criterion.h>

Test(streams, bounds_each_session_alone)
{
	struct stream_counts *counts;
	struct session_id a = {.bytes = {1}}, b = {.bytes = {2}};

	cr_assert_eq(streams_open(&counts), 0);
	cr_assert(streams_acquire(counts, &a, 2));
	cr_assert(streams_acquire(counts, &a, 2));
	cr_assert_not(streams_acquire(counts, &a, 2));
	cr_assert(streams_acquire(counts, &b, 2));
	streams_release(counts, &a);
	cr_assert(streams_acquire(counts, &a, 2));
	streams_release(counts, &a);
	streams_release(counts, &a);
	streams_release(counts, &a); /* nothing left: harmless */
	streams_close(counts);
}
