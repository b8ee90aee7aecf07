/* deliver: to whom a child's line goes. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "common/clock.h"
#include "tests/unit/master/keeper/expect.h"

static struct bench s;

static const char question[] = "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"roots/list\"}";
static const char note[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}";
static const char changed[] =
    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}";

static void open_own(void)
{
	bench_open(&s, CONFIG_PER_SESSION);
	bench_send(&s, 1, 99, note); /* binds the child to session 1 */
	bench_heard(&s);
	struct frame frame;
	cr_assert(bench_told(&s, &frame));
}

static void open_shared(void)
{
	bench_open(&s, CONFIG_SHARED);
}

static void close_stage(void)
{
	bench_close(&s);
}

/* A request of the session's; its number on the pipe. */
static unsigned long long ask(unsigned session, uint32_t request)
{
	bench_send(&s, session, request,
	    "{\"jsonrpc\":\"2.0\",\"id\":\"mine\",\"method\":\"tools/call\",\"params\":{\"_meta\":{"
	    "\"progressToken\":\"tok\"}}}");
	return bench_number(bench_heard(&s));
}

static void answer(unsigned long long number)
{
	char line[200];

	snprintf(line, sizeof(line),
	    "{ \"result\":{\"n\":12345678901234567890},\"id\":%llu,"
	    "\"jsonrpc\":\"2.0\" }",
	    number);
	bench_say(&s, line);
}

static uint64_t dropped(enum metric_drop reason)
{
	return metrics_sum(
	    s.boot.metrics, M_LINES_DROPPED, (struct metric_at){s.fleet->metrics_id, reason});
}

TestSuite(deliver, .init = open_own, .fini = close_stage);

Test(deliver, an_answer_gets_its_own_id_back_and_nothing_else_changes)
{
	answer(ask(1, 7));
	told(&s, KEEPER_ANSWER, 7,
	    "{ \"result\":{\"n\":12345678901234567890},\"id\":\"mine\",\"jsonrpc\":\"2.0\" }");
	quiet(&s);
}

Test(deliver, progress_gets_its_own_token_back)
{
	char line[200];

	snprintf(line, sizeof(line),
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
	    "\"progressToken\":%llu,\"progress\":1}}",
	    ask(1, 7));
	bench_say(&s, line);
	told(&s, KEEPER_MESSAGE, 7,
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
	    "\"progressToken\":\"tok\",\"progress\":1}}");
}

Test(deliver, an_answer_is_believed_once)
{
	unsigned long long number = ask(1, 7);

	answer(number);
	answer(number);
	answer(number + 1000);
	told(&s, KEEPER_ANSWER, 7, NULL);
	quiet(&s);
	cr_expect_eq(dropped(METRIC_DROP_UNKNOWN_ID), 2);
}

Test(deliver, what_is_no_message_is_dropped_and_counted)
{
	static const char *const lines[] = {"hello", "{", "{}x", "[]", "{\"a\":1}", "null",
	    "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"result\":{}}"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		bench_say(&s, lines[i]);
	quiet(&s);
	cr_expect_eq(dropped(METRIC_DROP_NOT_JSON), 2);
	cr_expect_eq(dropped(METRIC_DROP_NOT_RPC), 5);
}

Test(deliver, a_batch_of_answers_is_taken_apart)
{
	unsigned long long one = ask(1, 7), two = ask(1, 8);
	char line[200];

	snprintf(line, sizeof(line),
	    "[{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}},{\"jsonrpc\":\"2.0\",\"id\":%llu,"
	    "\"result\":{}}]",
	    two, one);
	bench_say(&s, line);
	told(&s, KEEPER_ANSWER, 8, "{\"jsonrpc\":\"2.0\",\"id\":\"mine\",\"result\":{}}");
	told(&s, KEEPER_ANSWER, 7, NULL);
}

Test(deliver, a_question_goes_with_the_only_request)
{
	ask(1, 7);
	bench_listen(&s, 1, 8);
	told(&s, KEEPER_ACCEPTED, 8, NULL);
	bench_say(&s, question);
	told(&s, KEEPER_MESSAGE, 7, question);
}

Test(deliver, with_several_requests_it_goes_on_the_stream_of_its_own)
{
	ask(1, 7);
	ask(1, 8);
	bench_listen(&s, 1, 9);
	told(&s, KEEPER_ACCEPTED, 9, NULL);
	bench_say(&s, note);
	told(&s, KEEPER_MESSAGE, 9, note);
}

Test(deliver, without_a_stream_it_waits_for_one)
{
	bench_say(&s, question);
	bench_say(&s, note);
	quiet(&s);
	bench_listen(&s, 1, 9);
	told(&s, KEEPER_ACCEPTED, 9, NULL);
	told(&s, KEEPER_MESSAGE, 9, question);
	told(&s, KEEPER_MESSAGE, 9, note);
}

Test(deliver, what_waited_too_long_is_refused)
{
	bench_say(&s, question);
	bench_say(&s, note);
	struct link *l = s.child->links;
	link_expire(l, clock_coarse() + 1);
	cr_expect_str_eq(bench_heard(&s), "");
	link_expire(l, clock_coarse() + 60);
	cr_expect_not_null(strstr(bench_heard(&s), "\"id\":5,\"error\""));
	cr_expect_eq(dropped(METRIC_DROP_NO_SESSION), 1);
	cr_expect_eq(l->held_bytes, 0);
}

Test(deliver, what_waits_is_bounded)
{
	unsigned refused = 0;

	for (int i = 0; i < 1000; i++) {
		bench_say(&s, question);
		for (const char *p = bench_heard(&s); (p = strchr(p, '\n')); p++)
			refused++;
	}
	cr_expect_eq(s.child->links->held_count, LINK_HELD_MAX);
	cr_expect_eq(refused, 1000 - LINK_HELD_MAX);
}

Test(deliver, a_line_too_long_fails_the_only_request)
{
	ask(1, 7);
	deliver_too_long(s.child, SPAN("{\"jsonrpc\":"));
	told(&s, KEEPER_FAILED, 7, NULL);
	cr_expect_not_null(strstr(s.text, "limits.line"));
	ask(1, 8);
	ask(1, 9);
	deliver_too_long(s.child, SPAN("{\"jsonrpc\":"));
	quiet(&s);
	cr_expect_eq(dropped(METRIC_DROP_TOO_LONG), 2);
}

Test(deliver, the_end_of_a_child_is_told_to_all_who_wait)
{
	ask(1, 7);
	bench_listen(&s, 1, 8);
	told(&s, KEEPER_ACCEPTED, 8, NULL);
	instance_stop(s.child, "over");
	told(&s, KEEPER_FAILED, 7, NULL);
	cr_expect_str_eq(s.text + 1, "over");
	told(&s, KEEPER_ENDED, 8, NULL);
	s.child = instance_create(s.fleet);
}

Test(deliver, a_worker_that_is_gone_is_owed_nothing)
{
	unsigned long long number = ask(1, 7);

	peer_close(s.peer, "gone");
	answer(number);
	cr_expect_eq(HASH_COUNT(s.child->calls), 0);
	bench_say(&s, question);
	cr_expect_eq(s.child->links->held_count, 1);
}

TestSuite(deliver_shared, .init = open_shared, .fini = close_stage);

Test(deliver_shared, a_question_of_one_of_two_is_refused)
{
	ask(1, 7);
	ask(2, 8);
	bench_say(&s, question);
	bench_say(&s, note);
	quiet(&s);
	cr_expect_not_null(strstr(bench_heard(&s), "\"id\":5,\"error\""));
	cr_expect_eq(dropped(METRIC_DROP_NO_SESSION), 1);
}

Test(deliver_shared, a_changed_list_is_for_everybody)
{
	bench_listen(&s, 1, 7);
	bench_listen(&s, 2, 8);
	told(&s, KEEPER_ACCEPTED, 7, NULL);
	told(&s, KEEPER_ACCEPTED, 8, NULL);
	bench_say(&s, changed);
	told(&s, KEEPER_MESSAGE, 7, changed);
	told(&s, KEEPER_MESSAGE, 8, changed);
	quiet(&s);
}

Test(deliver_shared, a_resource_is_for_its_subscribers)
{
	static const char updated[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/"
				      "updated\",\"params\":{\"uri\":\"x:1\"}}";

	bench_listen(&s, 1, 7);
	bench_listen(&s, 2, 8);
	bench_send(&s, 2, 9,
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/subscribe\",\"params\":{\"uri\":"
	    "\"x:\\u0031\"}}");
	char line[100];
	snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}",
	    bench_number(bench_heard(&s)));
	bench_say(&s, line);
	told(&s, KEEPER_ACCEPTED, 7, NULL);
	told(&s, KEEPER_ACCEPTED, 8, NULL);
	told(&s, KEEPER_ANSWER, 9, NULL);
	bench_say(&s, updated);
	told(&s, KEEPER_MESSAGE, 8, updated);
	quiet(&s);
}

/* --- long lines
 * ------------------------------------------------------------------------------------ */

enum { LONG = 200 * 1024 };

static const char next_line[] = "{\"jsonrpc\":\"2.0\",\"method\":\"next\"}\n";

/* An answer of LONG bytes, its line end included. */
static char *long_answer(unsigned long long number)
{
	char *line = malloc(LONG + 1);
	int n =
	    snprintf(line, LONG, "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{\"x\":\"", number);

	cr_assert(line);
	memset(line + n, 'x', (size_t)(LONG - n));
	memcpy(line + LONG - 5, "\"}}\n", 5);
	return line;
}

/* As far as `n` bytes, so that its last piece comes with what is written next. */
static void write_long(const char *line)
{
	s.upstream.stdio.line = 4 * LONG;
	bench_write(&s, (struct span){line, LONG - 100});
}

static void write_end(const char *line, const char *following)
{
	char end[600];

	snprintf(end, sizeof(end), "%s%s", line + LONG - 100, following);
	bench_write(&s, span_of(end));
}

Test(deliver, a_long_line_is_scanned_in_turns)
{
	unsigned long long number = ask(1, 7);
	char *line = long_answer(number);
	struct frame frame;

	ask(1, 8); /* of two which is meant is not known, so that the next has to go to a stream */
	bench_listen(&s, 1, 9);
	told(&s, KEEPER_ACCEPTED, 9, NULL);
	write_long(line);
	write_end(line, next_line);
	cr_assert(s.child->scanning);
	bench_write(&s, SPAN(next_line));
	quiet(&s);
	cr_expect_geq(bench_wait(&s), LONG / SCANNING_STEP - 2);
	told(&s, KEEPER_ANSWER, 7, NULL);
	cr_assert(bench_told(&s, &frame), "what came with it follows");
	cr_expect_eq(frame.type, KEEPER_MESSAGE);
	bench_turn(&s);
	told(&s, KEEPER_MESSAGE, frame.request, NULL);
	quiet(&s);
	cr_expect_not(s.child->page->midway_out);
	free(line);
}

Test(deliver, what_is_no_message_is_dropped_when_it_is_long_too)
{
	char *line = long_answer(ask(1, 7));

	line[LONG - 50] = '\n' + 1; /* a control character */
	write_long(line);
	write_end(line, "");
	bench_wait(&s);
	quiet(&s);
	cr_expect_eq(dropped(METRIC_DROP_NOT_JSON), 1);
	free(line);
}

Test(deliver, a_long_batch_is_given_in_turns)
{
	enum { MESSAGES = 4000 };
	struct buffer batch = {0};
	char expected[64];

	bench_listen(&s, 1, 9);
	told(&s, KEEPER_ACCEPTED, 9, NULL);
	s.upstream.stdio.line = 4 * LONG;
	for (int n = 0; n < MESSAGES; n++)
		cr_assert_eq(
		    buffer_printf(&batch, 4 * LONG, "%s{\"jsonrpc\":\"2.0\",\"method\":\"m%d\"}",
			n > 0 ? " , " : "[", n),
		    0);
	cr_assert_eq(buffer_append(&batch, "]\n", 2, 4 * LONG), 0);
	bench_write(&s, buffer_span(&batch));
	cr_expect_geq(bench_wait(&s), MESSAGES / 20);
	for (int n = 0; n < MESSAGES; n++) {
		snprintf(expected, sizeof(expected), "{\"jsonrpc\":\"2.0\",\"method\":\"m%d\"}", n);
		told(&s, KEEPER_MESSAGE, 9, expected);
	}
	quiet(&s);
	buffer_release(&batch);
}

Test(deliver, nobody_hears_a_long_line_of_one_that_was_stopped)
{
	char *line = long_answer(ask(1, 7));

	write_long(line);
	write_end(line, next_line);
	cr_assert(s.child->scanning);
	instance_stop(s.child, "the test says so");
	told(&s, KEEPER_FAILED, 7, NULL);
	bench_wait(&s);
	quiet(&s);
	free(line);
}
