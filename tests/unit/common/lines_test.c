/* lines: cutting, wherever the pieces end, and the bound. */
#include "common/lines.h"

#include <criterion/criterion.h>

static struct buffer seen;
static unsigned too_long;

static void on_line(void *context, struct span line)
{
	(void)context;
	cr_assert_eq(buffer_printf(&seen, 4096, "<%.*s>", (int)line.n, line.p), 0);
}

static void on_too_long(void *context, struct span beginning)
{
	(void)context;
	cr_assert_gt(beginning.n, 0);
	too_long++;
}

static const struct lines_ops ops = {on_line, on_too_long};

static void expect(const char *text)
{
	cr_assert_eq(buffer_append(&seen, "", 1, 4096), 0);
	cr_expect_str_eq(buffer_span(&seen).p, text);
	buffer_release(&seen);
}

Test(lines, are_the_same_however_they_are_cut)
{
	static const char text[] = "one\ntwo\r\n\nfour is longer\n12345678901234567\nlast";

	for (size_t a = 0; a < sizeof(text); a++) {
		for (size_t b = a; b < sizeof(text); b++) {
			struct lines l = {.max = 16};
			too_long = 0;
			lines_feed(&l, (struct span){text, a}, &ops, NULL);
			lines_feed(&l, (struct span){text + a, b - a}, &ops, NULL);
			lines_feed(&l, (struct span){text + b, sizeof(text) - 1 - b}, &ops, NULL);
			cr_expect_eq(too_long, 1);
			cr_expect(lines_midway(&l));
			buffer_release(&l.part);
			expect("<one><two><><four is longer>");
		}
	}
}

Test(lines, hold_no_more_than_the_bound)
{
	struct lines l = {.max = 100};
	char block[64];

	memset(block, 'x', sizeof(block));
	too_long = 0;
	for (int i = 0; i < 1000; i++) {
		lines_feed(&l, (struct span){block, sizeof(block)}, &ops, NULL);
		cr_assert_leq(buffer_length(&l.part), 100);
	}
	cr_expect_eq(too_long, 1);
	lines_feed(&l, SPAN("\nnext\n"), &ops, NULL);
	expect("<next>");
	cr_expect_not(lines_midway(&l));
}

Test(lines, a_line_of_exactly_the_bound_is_one)
{
	struct lines l = {.max = 4};

	too_long = 0;
	lines_feed(&l, SPAN("1234\n12345\n1"), &ops, NULL);
	lines_feed(&l, SPAN("234\n"), &ops, NULL);
	expect("<1234><1234>");
	cr_expect_eq(too_long, 1);
}

Test(lines, a_long_one_is_held_with_what_follows)
{
	struct lines l = {.max = 64, .at_once = 8};

	too_long = 0;
	lines_feed(&l, SPAN("12345678\n123456"), &ops, NULL);
	expect("<12345678>");
	cr_expect_eq(lines_held(&l).n, 0);
	lines_feed(&l, SPAN("789\r\nnext\nand an even longer one\nla"), &ops, NULL);
	expect("");
	cr_expect(span_equal(lines_held(&l), SPAN("123456789")));
	cr_expect(lines_midway(&l));
	lines_release(&l, &ops, NULL);
	expect("<next>");
	cr_expect(span_equal(lines_held(&l), SPAN("and an even longer one")));
	lines_release(&l, &ops, NULL);
	cr_expect_eq(lines_held(&l).n, 0);
	lines_feed(&l, SPAN("st\n"), &ops, NULL);
	expect("<last>");
	cr_expect_not(lines_midway(&l));
	cr_expect_eq(too_long, 0);
	buffer_release(&l.part);
}

Test(lines, one_that_is_too_long_is_not_held)
{
	struct lines l = {.max = 10, .at_once = 8};

	too_long = 0;
	lines_feed(&l, SPAN("12345678901\n123456789\n"), &ops, NULL);
	cr_expect_eq(too_long, 1);
	cr_expect(span_equal(lines_held(&l), SPAN("123456789")));
	cr_expect_not(lines_midway(&l));
	lines_clear(&l);
	cr_expect_eq(lines_held(&l).n, 0);
}

Test(lines, go_on_where_another_was)
{
	struct lines l = {.max = 64, .at_once = 8};

	cr_assert_eq(lines_restore(&l, SPAN("a whole one\nand a pa")), 0);
	cr_expect(span_equal(lines_held(&l), SPAN("a whole one")));
	cr_expect(lines_midway(&l));
	lines_release(&l, &ops, NULL);
	lines_feed(&l, SPAN("rt\n"), &ops, NULL);
	cr_expect(span_equal(lines_held(&l), SPAN("and a part")));
	lines_clear(&l);
	cr_assert_eq(lines_restore(&l, SPAN("par")), 0);
	cr_expect_eq(lines_held(&l).n, 0);
	lines_feed(&l, SPAN("t\n"), &ops, NULL);
	expect("<part>");
}
