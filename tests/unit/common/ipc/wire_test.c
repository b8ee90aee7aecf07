/* wire: what was put comes back; bounds hold at every byte; errors latch. */
#include "common/ipc/wire.h"

#include <criterion/criterion.h>

static size_t put_all(char *bytes, size_t capacity, bool *error)
{
	struct wire_writer w = {.p = bytes, .capacity = capacity};

	wire_put_u8(&w, 0xfe);
	wire_put_u16(&w, 0xfedc);
	wire_put_u32(&w, 0xfedcba98);
	wire_put_u64(&w, 0xfedcba9876543210);
	wire_put_string(&w, SPAN("hello"));
	wire_put_string(&w, SPAN(""));
	*error = w.error;
	return w.length;
}

static bool get_all(const char *bytes, size_t n)
{
	struct wire_reader r = {.p = bytes, .length = n};
	bool same = wire_get_u8(&r) == 0xfe && wire_get_u16(&r) == 0xfedc &&
		    wire_get_u32(&r) == 0xfedcba98 && wire_get_u64(&r) == 0xfedcba9876543210 &&
		    span_equal(wire_get_string(&r), SPAN("hello")) &&
		    span_equal(wire_get_string(&r), SPAN(""));

	return same && wire_complete(&r);
}

Test(wire, truncation_is_seen_at_every_byte_by_reader_and_writer)
{
	char bytes[64], small[64];
	bool error;
	size_t n = put_all(bytes, sizeof(bytes), &error);

	cr_assert(!error);
	cr_assert(get_all(bytes, n));
	cr_assert(!get_all(bytes, n + 1), "bytes left over are not complete");
	for (size_t i = 0; i < n; i++) {
		cr_assert(!get_all(bytes, i));
		cr_assert_leq(put_all(small, i, &error), i);
		cr_assert(error);
	}
}

Test(wire, an_error_latches)
{
	char bytes[1] = {7};
	struct wire_reader r = {.p = bytes, .length = 1};
	struct wire_writer w = {.p = bytes, .capacity = 1};

	cr_assert_eq(wire_get_u32(&r), 0);
	cr_assert_eq(wire_get_u8(&r), 0);
	cr_assert(r.error);
	wire_put_u32(&w, 1);
	wire_put_u8(&w, 1);
	cr_assert(w.error);
	cr_assert_eq(w.length, 0);
}
