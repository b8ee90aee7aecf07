/* outbox: what is kept until the end of a turn. */
#include "worker/http/outbox.h"

#include <criterion/criterion.h>

static struct outbox o;
static struct gather g;

static struct span put(const char *first, size_t n)
{
	gather_reset(&g);
	cr_assert(gather_copy(&g, SPAN("HTTP/1.1 200 OK\r\n\r\n")));
	cr_assert(gather_add(&g, (struct span){first, n}));
	return outbox_put(&o, &g);
}

Test(outbox, keeps_a_copy_of_all_pieces_in_their_order)
{
	char body[] = "body";
	struct span kept = put(body, 4);

	memset(body, 'x', 4);
	gather_reset(&g);
	cr_assert(span_equal(kept, SPAN("HTTP/1.1 200 OK\r\n\r\nbody")));
}

Test(outbox, leaves_what_is_kept_where_it_is_until_it_is_reset)
{
	struct span first = put("one", 3), second = put("two", 3);

	cr_assert_neq(first.p, second.p);
	cr_assert_eq(first.p[first.n - 1], 'e');
	outbox_reset(&o);
	cr_assert_eq(put("six", 3).p, first.p);
}

Test(outbox, refuses_what_is_long_and_what_has_no_room)
{
	static char body[OUTBOX_ANSWER_MAX];
	size_t kept = 0;

	cr_assert_null(put(body, sizeof(body)).p);
	while (put(body, 4000).p)
		kept++;
	cr_assert_eq(kept, OUTBOX_SIZE / 4019);
	cr_assert_not_null(put(body, 10).p, "a shorter one still fits");
}
