/* buffer: growth, bounds and reclaimed space. */
#include "common/buffer.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>

Test(buffer, keeps_bytes_in_order_while_head_and_tail_move)
{
	struct buffer b = {0};
	char expected = 0, next = 0;

	for (int round = 0; round < 1000; round++) {
		char bytes[7];
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = next++;
		cr_assert_eq(buffer_append(&b, bytes, sizeof(bytes), 4096), 0);
		struct span s = buffer_span(&b);
		size_t take = s.n / 2;
		for (size_t i = 0; i < take; i++)
			cr_assert_eq(s.p[i], expected++);
		buffer_consume(&b, take);
	}
	buffer_release(&b);
}

Test(buffer, refuses_to_grow_beyond_its_bound_and_stays_unchanged)
{
	struct buffer b = {0};

	cr_assert_eq(buffer_append(&b, "12345", 5, 8), 0);
	cr_assert_eq(buffer_append(&b, "6789", 4, 8), -EMSGSIZE);
	cr_assert_eq(buffer_length(&b), 5);
	cr_assert_eq(buffer_append(&b, "678", 3, 8), 0);
	cr_assert(span_equal(buffer_span(&b), SPAN("12345678")));
	buffer_release(&b);
}

Test(buffer, holds_less_than_4_gib_whatever_its_bound)
{
	struct buffer b = {0};

	cr_assert_eq(buffer_append(&b, "12345", 5, SIZE_MAX), 0);
	cr_assert_eq(buffer_reserve(&b, UINT32_MAX, SIZE_MAX), -EMSGSIZE);
	cr_assert_eq(buffer_reserve(&b, SIZE_MAX - 5, SIZE_MAX), -EMSGSIZE);
	cr_assert(span_equal(buffer_span(&b), SPAN("12345")));
	buffer_release(&b);
}

Test(buffer, keeps_a_part_in_no_more_memory_than_that_takes)
{
	struct buffer b = {0};

	cr_assert_eq(buffer_append(&b, "0123456789", 10, 600), 0);
	buffer_consume(&b, 1);
	buffer_keep(&b, (struct span){buffer_span(&b).p + 2, 4});
	cr_assert(span_equal(buffer_span(&b), SPAN("3456")));
	cr_assert_eq(b.capacity, 4);
	cr_assert_eq(buffer_append(&b, "78", 2, 600), 0);
	cr_assert(span_equal(buffer_span(&b), SPAN("345678")));
	buffer_keep(&b, (struct span){0});
	cr_assert_null(b.data);
}

Test(buffer, printf_counts_its_content_but_not_the_nul)
{
	struct buffer b = {0};

	cr_assert_eq(buffer_printf(&b, 4, "%d", 1234), 0);
	cr_assert_eq(buffer_printf(&b, 4, "%d", 5), -EMSGSIZE);
	cr_assert(span_equal(buffer_span(&b), SPAN("1234")));
	buffer_release(&b);
}

Test(buffer, add_takes_all_pieces_or_none)
{
	struct buffer b = {0};

	cr_assert_eq(BUFFER_ADD(&b, 8, SPAN("ab"), (struct span){0}, SPAN("cd")), 0);
	cr_assert(span_equal(buffer_span(&b), SPAN("abcd")));
	cr_assert_eq(BUFFER_ADD(&b, 8, SPAN("efg"), SPAN("hi")), -EMSGSIZE);
	cr_assert(span_equal(buffer_span(&b), SPAN("abcd")));
	buffer_release(&b);
}

/* A long body is copied at most while it is short. */
Test(buffer, makes_room_for_the_whole_once_a_part_is_there)
{
	enum { WHOLE = 4 * 1024 * 1024, PART = 64 * 1024 };
	static char part[PART];
	struct buffer b = {0};

	cr_assert_eq(buffer_append_part(&b, part, 1000, WHOLE, WHOLE), 0);
	cr_assert_lt(b.capacity, 2048, "nobody is believed at the first word");
	cr_assert_eq(buffer_append_part(&b, part, PART, WHOLE, WHOLE), 0);
	cr_assert_lt(b.capacity, WHOLE);
	cr_assert_eq(buffer_append_part(&b, part, PART, WHOLE, WHOLE), 0);
	const char *data = b.data;
	size_t capacity = b.capacity;
	cr_assert_geq(capacity, WHOLE);
	while (buffer_length(&b) + PART <= WHOLE)
		cr_assert_eq(buffer_append_part(&b, part, PART, WHOLE, WHOLE), 0);
	cr_assert_eq(b.data, data);
	cr_assert_eq(b.capacity, capacity);
	/* What was announced is no permission. */
	cr_assert_eq(buffer_append_part(&b, part, PART, WHOLE, WHOLE), -EMSGSIZE);
	cr_assert_eq(buffer_append_part(&b, part, 1, SIZE_MAX, WHOLE), 0);
	buffer_release(&b);
}
