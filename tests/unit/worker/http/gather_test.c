/* gather: pieces and text stay in order, and nothing is half added. */
#include "worker/http/gather.h"

#include <criterion/criterion.h>

static struct gather g;

static void joined(char *out)
{
	for (unsigned i = 0; i < g.count; i++) {
		memcpy(out, g.pieces[i].iov_base, g.pieces[i].iov_len);
		out += g.pieces[i].iov_len;
	}
	*out = '\0';
}

Test(gather, keeps_the_order_of_text_and_pieces)
{
	char out[64];

	gather_reset(&g);
	cr_assert(gather_copy(&g, SPAN("a")));
	cr_assert(gather_copy(&g, SPAN("b")));
	cr_assert(gather_add(&g, SPAN("-piece-")));
	cr_assert(gather_copy(&g, SPAN("c")));
	cr_assert(gather_add(&g, (struct span){0}));
	cr_assert(gather_copy(&g, (struct span){0}));
	joined(out);
	cr_assert_str_eq(out, "ab-piece-c");
	cr_assert_eq(g.length, 10);
	cr_assert_eq(g.count, 3, "adjacent text shares a piece");
}

Test(gather, says_when_it_is_full_and_changes_nothing)
{
	static char big[GATHER_TEXT + 1];

	gather_reset(&g);
	cr_assert_not(gather_copy(&g, (struct span){big, sizeof(big)}));
	cr_assert_eq(g.length, 0);
	cr_assert(gather_copy(&g, (struct span){big, GATHER_TEXT}));
	cr_assert_not(gather_copy(&g, SPAN("x")));
	for (int i = 1; i < GATHER_PIECES; i++)
		cr_assert(gather_add(&g, SPAN("p")));
	cr_assert_not(gather_add(&g, SPAN("p")));
	cr_assert_eq(g.length, GATHER_TEXT + GATHER_PIECES - 1);
}
