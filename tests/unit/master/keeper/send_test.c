/* send: what a child gets of a client's message. */
#include "master/keeper/send.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/unit/master/keeper/expect.h"

static struct bench s;

static void open_own(void)
{
	bench_open(&s, CONFIG_PER_SESSION);
}

static void close_stage(void)
{
	bench_close(&s);
}

TestSuite(send, .init = open_own, .fini = close_stage);

Test(send, ids_and_tokens_become_numbers_wherever_they_stand)
{
	static const struct {
		const char *message, *before, *between, *after;
	} rows[] = {
	    {"{\"jsonrpc\":\"2.0\",\"id\":\"a\\\"b\",\"method\":\"m\",\"params\":{\"_meta\":{"
	     "\"progressToken\":\"t\"},\"x\":1e400}}",
		"{\"jsonrpc\":\"2.0\",\"id\":",
		",\"method\":\"m\",\"params\":{\"_meta\":{\"progressToken\":", "},\"x\":1e400}}\n"},
	    {"{\"params\":{\"_meta\":{\"progressToken\":7}},\"method\":\"m\",\"id\":7,"
	     "\"jsonrpc\":\"2.0\"}",
		"{\"params\":{\"_meta\":{\"progressToken\":", "}},\"method\":\"m\",\"id\":",
		",\"jsonrpc\":\"2.0\"}\n"},
	};
	char expected[512];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bench_send(&s, 1, i + 1, rows[i].message);
		const char *heard = bench_heard(&s);
		unsigned long long number = bench_number(heard);
		cr_assert_gt(number, 0);
		snprintf(expected, sizeof(expected), "%s%llu%s%llu%s", rows[i].before, number,
		    rows[i].between, number, rows[i].after);
		cr_expect_str_eq(heard, expected);
	}
}

Test(send, a_message_over_several_lines_becomes_one)
{
	bench_send(&s, 1, 1, "{\n \"jsonrpc\": \"2.0\",\r\n \"method\": \"a\\nb\"\n}");
	cr_expect_str_eq(bench_heard(&s), "{  \"jsonrpc\": \"2.0\",\r  \"method\": \"a\\nb\" }\n");
	told(&s, KEEPER_ACCEPTED, 1, NULL);
}

Test(send, equal_ids_of_one_session_stay_apart)
{
	bench_send(&s, 1, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");
	unsigned long long first = bench_number(bench_heard(&s));
	bench_send(&s, 1, 2, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"b\"}");
	cr_expect_neq(bench_number(bench_heard(&s)), first);
}

Test(send, another_session_does_not_reach_the_child)
{
	bench_send(&s, 1, 1, "{\"jsonrpc\":\"2.0\",\"method\":\"mine\"}");
	told(&s, KEEPER_ACCEPTED, 1, NULL);
	bench_send(&s, 2, 2, "{\"jsonrpc\":\"2.0\",\"method\":\"theirs\"}");
	told(&s, KEEPER_GONE, 2, NULL);
	cr_expect_null(strstr(bench_heard(&s), "theirs"));
}

Test(send, a_cancelled_request_is_named_by_its_number_and_let_go)
{
	char expected[200];

	bench_send(&s, 1, 1, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"slow\"}");
	unsigned long long number = bench_number(bench_heard(&s));
	bench_send(&s, 1, 2,
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
	    "\"requestId\":\"x\"}}");
	snprintf(expected, sizeof(expected),
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
	    "\"requestId\":%llu}}\n",
	    number);
	cr_expect_str_eq(bench_heard(&s), expected);
	told(&s, KEEPER_ENDED, 1, NULL);
	told(&s, KEEPER_ACCEPTED, 2, NULL);
	/* What was never asked can't be cancelled. */
	bench_send(&s, 1, 3,
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
	    "\"requestId\":\"x\"}}");
	cr_expect_str_eq(bench_heard(&s), "");
	told(&s, KEEPER_ACCEPTED, 3, NULL);
}

Test(send, a_batch_is_sent_message_by_message)
{
	uint32_t answers;

	bench_send(&s, 1, 1,
	    "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}, {\"jsonrpc\":\"2.0\",\"method\":"
	    "\"n\"},{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"b\"}]");
	const char *heard = bench_heard(&s);
	unsigned lines = 0;
	for (const char *p = heard; (p = strchr(p, '\n')); p++)
		lines++;
	cr_expect_eq(lines, 3);
	told(&s, KEEPER_ACCEPTED, 1, NULL);
	memcpy(&answers, s.text, sizeof(answers));
	cr_expect_eq(answers, 2);
}

Test(send, a_child_that_does_not_read_is_sent_no_more_than_its_bound)
{
	char message[9000];
	unsigned accepted = 0;
	struct frame frame;

	int n =
	    snprintf(message, sizeof(message), "{\"jsonrpc\":\"2.0\",\"method\":\"%08000d\"}", 1);
	cr_assert_gt(n, 0);
	for (;;) {
		bench_send(&s, 1, 1, message);
		cr_assert(bench_told(&s, &frame));
		if (frame.type != KEEPER_ACCEPTED)
			break;
		accepted++;
	}
	cr_expect_eq(frame.type, KEEPER_FAILED);
	cr_expect_eq(s.text[0], METRIC_REASON_LIMIT);
	cr_expect_not_null(strstr(s.text, "it does not read"));
	cr_expect_eq(accepted, 8, "%u messages of 8 KB in 64 KiB", accepted);
	cr_expect_leq(buffer_length(&s.child->input), s.upstream.stdio.line);
}

Test(send, a_child_that_closed_its_stdin_is_told_of)
{
	close(s.input);
	bench_send(&s, 1, 1, "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}");
	signal(SIGPIPE, SIG_IGN);
	instance_flush(s.child);
	told(&s, KEEPER_ACCEPTED, 1, NULL);
	bench_send(&s, 1, 2, "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}");
	told(&s, KEEPER_FAILED, 2, NULL);
	cr_expect_eq(s.text[0], METRIC_REASON_CLOSED);
	s.input = dup(0);
}

Test(send, an_id_that_is_long_beyond_reason_is_refused)
{
	char message[10000];

	snprintf(message, sizeof(message),
	    "{\"jsonrpc\":\"2.0\",\"id\":\"%09000d\",\"method\":\"a\"}", 1);
	bench_send(&s, 1, 1, message);
	told(&s, KEEPER_FAILED, 1, NULL);
	cr_expect_not_null(strstr(s.text, "too long"));
	cr_expect_str_eq(bench_heard(&s), "");
	cr_expect_eq(HASH_COUNT(s.child->calls), 0);
}

Test(send, what_waits_for_a_start_is_bounded)
{
	static char payload[8 << 20];
	struct waiter_list list;
	unsigned count = 0, taken = 0;

	TAILQ_INIT(&list);
	while (waiter_create(&list, &count, s.peer, &(struct frame){.request = 1},
	    (struct span){payload, sizeof(payload)}))
		taken++;
	cr_expect_eq(taken, KEEPER_WAITING_MAX / sizeof(payload));
	waiters_fail(&list, METRIC_REASON_LIMIT, "full");
	cr_expect_eq(s.keeper->waiting, 0);
	cr_expect_eq(count, 0);
}

Test(send, nobody_waits_for_a_forgotten_request)
{
	bench_send(&s, 1, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");
	char answer[128];
	snprintf(answer, sizeof(answer), "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}",
	    bench_number(bench_heard(&s)));
	peer_dispatch(s.peer, &(struct frame){.type = KEEPER_FORGET, .request = 1}, SPAN(""));
	bench_say(&s, answer);
	quiet(&s);
	cr_expect_eq(HASH_COUNT(s.child->calls), 0);
}

/* --- shared children
 * -------------------------------------------------------------------------------- */

static void open_shared(void)
{
	bench_open(&s, CONFIG_SHARED);
}

TestSuite(send_shared, .init = open_shared, .fini = close_stage);

Test(send_shared, the_child_is_initialized_once)
{
	bench_send(&s, 1, 1, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
	told(&s, KEEPER_ACCEPTED, 1, NULL);
	cr_expect_str_eq(bench_heard(&s), "");
}

Test(send_shared, a_subscription_ends_with_the_last_subscriber)
{
	static const char add[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/subscribe\","
	    "\"params\":{\"uri\":\"x:1\"}}";
	static const char drop[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":\"u\",\"method\":\"resources/unsubscribe\",\"params\":{"
	    "\"uri\":\"x:1\"}}";

	bench_send(&s, 1, 1, add);
	bench_send(&s, 2, 2, add);
	bench_heard(&s);
	bench_send(&s, 1, 3, drop);
	cr_expect_str_eq(bench_heard(&s), "", "the other wants to hear of it");
	told(&s, KEEPER_ANSWER, 3, NULL);
	cr_expect_str_eq(s.text, "{\"jsonrpc\":\"2.0\",\"id\":\"u\",\"result\":{}}");
	bench_send(&s, 2, 4, drop);
	cr_expect_not_null(strstr(bench_heard(&s), "resources/unsubscribe"));
	quiet(&s);
}

Test(send_shared, only_who_was_asked_can_answer)
{
	static const char question[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"roots/list\"}";
	static const char answer[] = "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":{}}";

	bench_send(&s, 1, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");
	bench_heard(&s);
	bench_say(&s, question);
	told(&s, KEEPER_MESSAGE, 1, NULL);
	bench_send(&s, 2, 2, answer);
	told(&s, KEEPER_ACCEPTED, 2, NULL);
	cr_expect_str_eq(bench_heard(&s), "");
	bench_send(&s, 1, 3, answer);
	cr_expect_not_null(strstr(bench_heard(&s), "\"q\""));
	bench_send(&s, 1, 4, answer);
	cr_expect_str_eq(bench_heard(&s), "", "once");
}
