/* stateless: a server without sessions, and how it is told from one that has them. */
#include "master/keeper/stateless.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/unit/master/keeper/expect.h"

#define META "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%llu}"

static struct bench s;

static void open_stateless(void)
{
	bench_open(&s, CONFIG_PER_SESSION);
	s.child->stateless = s.child->shared = true;
}

/* A child that was just asked. */
static void open_unknown(void)
{
	bench_open(&s, CONFIG_PER_SESSION);
	stateless_probe(s.child);
}

static void close_stage(void)
{
	bench_close(&s);
}

static void say(const char *format, unsigned long long number)
{
	char line[512];

	snprintf(line, sizeof(line), format, number, number);
	bench_say(&s, line);
}

static unsigned long long ask(uint32_t request, const char *message)
{
	bench_ask(&s, request, message);
	return bench_number(bench_heard(&s));
}

TestSuite(stateless, .init = open_stateless, .fini = close_stage);

Test(stateless, equal_ids_of_anybody_stay_apart)
{
	unsigned long long first = ask(1, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"a\"}");
	unsigned long long second = ask(2, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"a\"}");

	cr_assert_neq(first, second);
	say("{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}", second);
	told(&s, KEEPER_ANSWER, 2, NULL);
	cr_expect_str_eq(s.text, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":{}}");
}

Test(stateless, what_belongs_to_a_listen_bears_its_own_id)
{
	unsigned long long number =
	    ask(1, "{\"jsonrpc\":\"2.0\",\"id\":\"l\",\"method\":\"subscriptions/listen\"}");

	say("{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{" META "}}", number);
	told(&s, KEEPER_MESSAGE, 1, NULL);
	cr_expect_str_eq(s.text, "{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{\"_meta\":{"
				 "\"io.modelcontextprotocol/subscriptionId\":\"l\"}}}");
	say("{\"result\":{" META "},\"id\":%llu,\"jsonrpc\":\"2.0\"}", number);
	told(&s, KEEPER_ANSWER, 1, NULL);
	cr_expect_str_eq(s.text,
	    "{\"result\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":\"l\"}},"
	    "\"id\":\"l\",\"jsonrpc\":\"2.0\"}");
	/* Nobody's any more. */
	say("{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{" META "}}", number);
	quiet(&s);
}

Test(stateless, a_listen_alone_ends_when_the_server_cancels_it)
{
	static const char cancel[] =
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
	    "\"requestId\":%llu}}";
	unsigned long long number = ask(1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");

	say(cancel, number);
	quiet(&s);
	say(cancel, ask(2, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"subscriptions/listen\"}"));
	told(&s, KEEPER_ENDED, 2, NULL);
}

Test(stateless, log_messages_are_for_the_only_one_that_wants_them)
{
	static const char wants[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":{\"_meta\":{"
	    "\"io.modelcontextprotocol/logLevel\":\"info\"}}}";
	static const char listens[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscriptions/listen\",\"params\":{"
	    "\"_meta\":{\"io.modelcontextprotocol/logLevel\":\"info\"}}}";
	static const char log[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}";

	ask(1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");
	ask(9, listens);
	bench_say(&s, log);
	quiet(&s);
	ask(2, wants);
	bench_say(&s, log);
	told(&s, KEEPER_MESSAGE, 2, NULL);
	ask(3, wants);
	bench_say(&s, log);
	quiet(&s);
}

Test(stateless, who_does_not_wait_has_cancelled)
{
	unsigned long long number = ask(1, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"a\"}");
	struct frame forget = {.type = KEEPER_FORGET, .request = 1};
	char expected[64];

	peer_dispatch(s.peer, &forget, (struct span){0});
	snprintf(expected, sizeof(expected), "\"requestId\":%llu", number);
	cr_expect(strstr(bench_heard(&s), expected), "%s", s.text);
	/* But nobody cancels by an id, which may be another's. */
	bench_ask(&s, 2,
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
	    "\"requestId\":7}}");
	cr_expect_str_eq(bench_heard(&s), "");
	told(&s, KEEPER_ACCEPTED, 2, NULL);
}

Test(stateless, its_questions_are_refused)
{
	bench_say(&s, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"sampling/createMessage\"}");
	cr_expect(strstr(bench_heard(&s), "{\"jsonrpc\":\"2.0\",\"id\":5,\"error\""), "%s", s.text);
}

TestSuite(stateless_probe, .init = open_unknown, .fini = close_stage);

Test(stateless_probe, requests_wait_for_what_it_says_of_itself)
{
	static const struct {
		const char *answer;
		bool stateless;
	} rows[] = {
	    {"\"result\":{\"supportedVersions\":[\"2026-07-28\"]}", true},
	    {"\"error\":{\"code\":-32022,\"message\":\"\"}", true},
	    {"\"error\":{\"code\":-32601,\"message\":\"\"}", false},
	    {"\"error\":{\"code\":-32602,\"message\":\"\"}", false},
	    {"\"result\":{}", false},
	};
	char line[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned long long probe = bench_number(bench_heard(&s));
		cr_assert(strstr(s.text, "server/discover"), "%s", s.text);
		bench_ask(&s, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");
		quiet(&s);
		snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%llu,%s}", probe,
		    rows[i].answer);
		bench_say(&s, line);
		if (rows[i].stateless) {
			cr_expect(bench_number(bench_heard(&s)) > probe, "%s", s.text);
			quiet(&s);
		} else {
			told(&s, KEEPER_LEGACY, 1, NULL);
			cr_expect_eq(s.child->state, INSTANCE_SPARE);
			cr_expect_eq(s.fleet->spare, 1);
		}
		bench_close(&s);
		open_unknown();
	}
}

Test(stateless_probe, one_that_answers_only_a_ping_is_of_the_era_before)
{
	bench_heard(&s);
	bench_ask(&s, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");
	stateless_late(s.child);
	unsigned long long ping = bench_number(bench_heard(&s));
	cr_assert(strstr(s.text, "\"ping\""), "%s", s.text);
	say("{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}", ping);
	told(&s, KEEPER_LEGACY, 1, NULL);
	cr_expect_eq(s.child->state, INSTANCE_SPARE);
	cr_expect_null(s.child->calls);
}

Test(stateless_probe, one_that_says_nothing_is_not_waited_for_for_ever)
{
	bench_ask(&s, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"}");
	stateless_late(s.child);
	quiet(&s);
	stateless_late(s.child);
	told(&s, KEEPER_LEGACY, 1, NULL);
}
