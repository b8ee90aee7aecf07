/* fanout: a portion in a turn, and each gets all that came while it was there, once. */
#include "worker/mcp/fanout.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "worker/upstream/upstream.h"

enum { EARS = 200, HEARD_MAX = 8, BOUND = 1024 * 1024 };

struct ear {
	struct hearer hearer;
	char heard[HEARD_MAX]; /* the first bytes of each news */
};

struct hall {
	struct worker worker;
	struct upstream upstream;
	struct upstream_connection connection; /* without a descriptor */
	struct upstream_call call;
	struct fanout fanout;
	struct ear ears[EARS];
	unsigned given;
};

static struct hall *hall;
static struct hearer *leaves; /* when the next news are given; all: with the fanout */
static bool all_leave;
static struct hearer *comes; /* when all have left; then it is not closed */

static void on_give(struct hearer *h, struct span news)
{
	struct ear *ear = container_of(h, struct ear, hearer);
	size_t n = strlen(ear->heard);

	cr_assert_lt(n, (size_t)HEARD_MAX - 1);
	ear->heard[n] = news.p[0];
	if (news.n == 2)
		ear->heard[n + 1] = news.p[1];
	hall->given++;
	if (leaves) {
		fanout_leave(leaves);
		leaves = NULL;
	}
	while (all_leave && !TAILQ_EMPTY(&hall->fanout.hearers))
		fanout_leave(TAILQ_FIRST(&hall->fanout.hearers));
	if (all_leave && comes)
		fanout_join(&hall->fanout, comes);
	else if (all_leave)
		fanout_close(&hall->fanout);
	if (comes)
		all_leave = false;
}

static struct fanout *hall_open(unsigned ears)
{
	hall = calloc(1, sizeof(*hall));
	cr_assert_not_null(hall);
	hall->worker.loop = ev_loop_new(EVFLAG_AUTO);
	fanout_timeouts_init(&hall->worker);
	hall->upstream.worker = &hall->worker;
	hall->connection =
	    (struct upstream_connection){.upstream = &hall->upstream, .closed = true};
	hall->call = (struct upstream_call){
	    .upstream = &hall->upstream, .connection = &hall->connection, .stream = true};
	fanout_init(&hall->fanout, &hall->call, on_give);
	for (unsigned i = 0; i < ears; i++)
		fanout_join(&hall->fanout, &hall->ears[i].hearer);
	return &hall->fanout;
}

static void hall_close(void)
{
	if (!hall->fanout.closed)
		fanout_close(&hall->fanout);
	fanout_free(&hall->fanout);
	ev_loop_destroy(hall->worker.loop);
	free(hall);
}

static void come(const char *news)
{
	cr_assert_eq(buffer_append(&hall->fanout.fresh, news, strlen(news), BOUND), 0);
}

/* How many had something in the next turn that gives. */
static unsigned turn(void)
{
	unsigned before = hall->given;

	while (hall->given == before && timeout_armed(&hall->fanout.more))
		ev_run(hall->worker.loop, EVRUN_ONCE);
	return hall->given - before;
}

static void finish(void)
{
	while (timeout_armed(&hall->fanout.more))
		cr_assert_leq(turn(), 64U);
	cr_assert_not(hall->call.paused);
}

static void expect(unsigned from, unsigned to, const char *heard)
{
	for (unsigned i = from; i < to; i++)
		cr_assert_str_eq(hall->ears[i].heard, heard, "%u heard %s", i, hall->ears[i].heard);
}

Test(fanout, gives_to_64_in_a_turn_and_stops_the_upstream_meanwhile)
{
	struct fanout *f = hall_open(EARS);

	come("a");
	fanout_deliver(f);
	cr_assert_eq(hall->given, 64U);
	cr_assert(hall->call.paused);
	come("b");
	come("c");
	cr_assert_eq(turn(), 64U);
	finish();
	cr_assert_eq(hall->given, 2U * EARS, "what came meanwhile is given as one");
	expect(0, EARS, "abc");
	cr_assert_eq(f->news.capacity + f->fresh.capacity, 0U);
	fanout_deliver(f);
	cr_assert_eq(hall->given, 2U * EARS, "there is nothing");
	hall_close();
}

Test(fanout, a_few_are_given_at_once)
{
	struct fanout *f = hall_open(64);

	come("a");
	fanout_deliver(f);
	cr_assert_eq(hall->given, 64U);
	cr_assert_not(hall->call.paused);
	cr_assert_not(timeout_armed(&f->more));
	hall_close();
}

Test(fanout, much_is_given_to_fewer_in_a_turn)
{
	struct fanout *f = hall_open(10);
	char *text = calloc(1, 300 * 1024 + 1);

	cr_assert_not_null(text);
	memset(text, 'x', 300 * 1024);
	come(text);
	free(text);
	fanout_deliver(f);
	cr_assert_eq(hall->given, 4U);
	finish();
	expect(0, 10, "x");
	hall_close();
}

Test(fanout, who_comes_in_the_middle_hears_what_comes_later)
{
	struct fanout *f = hall_open(EARS - 1);

	come("a");
	fanout_deliver(f);
	fanout_join(f, &hall->ears[EARS - 1].hearer);
	finish();
	come("b");
	fanout_deliver(f);
	finish();
	expect(0, EARS - 1, "ab");
	expect(EARS - 1, EARS, "b");
	hall_close();
}

Test(fanout, who_leaves_in_the_middle_takes_nobody_along)
{
	struct fanout *f = hall_open(EARS);

	come("a");
	fanout_deliver(f);
	/* The next, the one after it, one who had it, and the last of all: who joined first. */
	struct hearer *gone[] = {
	    f->next, TAILQ_NEXT(f->next, link), TAILQ_FIRST(&f->hearers), &hall->ears[0].hearer};
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		fanout_leave(gone[i]);
	leaves = TAILQ_NEXT(f->next, link); /* while the one before it is given something */
	finish();
	cr_assert_eq(hall->given, EARS - 4U);
	come("b");
	fanout_deliver(f);
	finish();
	for (unsigned i = 0; i < EARS; i++) {
		if (hall->ears[i].hearer.fanout)
			cr_assert_str_eq(hall->ears[i].heard, "ab");
	}
	hall_close();
}

Test(fanout, when_those_to_come_have_left_the_next_news_are_not_the_last)
{
	struct fanout *f = hall_open(65);

	come("a");
	fanout_deliver(f);
	fanout_leave(f->next);
	come("b");
	fanout_deliver(f);
	finish();
	expect(1, 65, "ab");
	expect(0, 1, "");
	hall_close();
}

Test(fanout, may_be_closed_by_whom_it_gives_to)
{
	struct fanout *f = hall_open(EARS);

	come("a");
	all_leave = true;
	fanout_deliver(f);
	cr_assert_eq(hall->given, 1U);
	cr_assert_not(timeout_armed(&f->more));
	hall_close();
}

/* A feed outlives its hearers when somebody waits to be acknowledged. */
static void expect_to_hear_the_next_only(struct ear *ear, unsigned given)
{
	finish();
	cr_assert_eq(hall->given, given, "to nobody");
	cr_assert_eq(hall->fanout.news.capacity + hall->fanout.fresh.capacity, 0U);
	come("c");
	fanout_deliver(&hall->fanout);
	cr_assert_eq(hall->given, given + 1);
	cr_assert_str_eq(ear->heard, "c");
}

Test(fanout, what_was_for_those_who_left_is_not_for_those_who_come)
{
	struct fanout *f = hall_open(EARS - 1);

	come("a");
	fanout_deliver(f);
	come("b");
	while (!TAILQ_EMPTY(&f->hearers))
		fanout_leave(TAILQ_FIRST(&f->hearers));
	fanout_join(f, &hall->ears[EARS - 1].hearer);
	expect_to_hear_the_next_only(&hall->ears[EARS - 1], 64);
	hall_close();
}

Test(fanout, nor_when_all_leave_while_one_of_them_is_given_it)
{
	struct fanout *f = hall_open(EARS - 1);

	come("a");
	comes = &hall->ears[EARS - 1].hearer;
	all_leave = true;
	fanout_deliver(f);
	expect_to_hear_the_next_only(&hall->ears[EARS - 1], 1);
	hall_close();
}
