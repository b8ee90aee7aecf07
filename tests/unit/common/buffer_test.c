/* buffer: growth, bounds and reclaimed space. */
#include "common/buffer.h"

#include <criterion/criterion.h>
#include <errno.h>

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
