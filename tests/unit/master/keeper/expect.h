/* expect: what the worker of a bench is told next, or that it is told nothing. */
#ifndef MARGAY_TESTS_UNIT_MASTER_KEEPER_EXPECT_H
#define MARGAY_TESTS_UNIT_MASTER_KEEPER_EXPECT_H

#include <criterion/criterion.h>

#include "tests/unit/master/keeper/bench.h"

/* A frame of this type for this request; with this payload, unless `text` is NULL. */
static inline void told(struct bench *s, enum keeper_type type, uint32_t request, const char *text)
{
	struct frame frame;

	cr_assert(bench_told(s, &frame));
	cr_assert_eq(frame.type, type, "%u: %s", frame.type, s->text);
	cr_assert_eq(frame.request, request);
	if (text)
		cr_assert_str_eq(s->text, text);
}

static inline void quiet(struct bench *s)
{
	struct frame frame;

	cr_assert_not(bench_told(s, &frame), "%u: %s", frame.type, s->text);
}

#endif
