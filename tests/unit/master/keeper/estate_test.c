/* estate: a keeper goes on in the middle of anything that another one was at. */
#include "master/keeper/estate.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/master/keeper/expect.h"

static struct bench s;

static void open_own(void)
{
	bench_open(&s, CONFIG_PER_SESSION);
}

static void open_shared(void)
{
	bench_open(&s, CONFIG_SHARED);
}

static void close_stage(void)
{
	bench_close(&s);
}

TestSuite(estate, .init = open_own, .fini = close_stage);
TestSuite(estate_shared, .init = open_shared, .fini = close_stage);

static void say_out(const char *p, size_t n)
{
	cr_assert_eq(write(s.output, p, n), (ssize_t)n);
	bench_turn(&s);
}

static void listen_on(unsigned session, uint32_t request)
{
	bench_listen(&s, session, request);
	told(&s, KEEPER_ACCEPTED, request, NULL);
}

static const char call[] = "{\"jsonrpc\":\"2.0\",\"id\":\"me\",\"method\":\"m\",\"params\":{"
			   "\"_meta\":{\"progressToken\":\"tok\"}}}";

Test(estate, a_call_in_flight_gets_its_progress_and_its_answer)
{
	char line[200];

	bench_send(&s, 1, 5, call);
	unsigned long long number = bench_number(bench_heard(&s));
	cr_assert_gt(number, 0);
	bench_replace(&s);
	quiet(&s);
	cr_assert_str_eq(bench_heard(&s), "", "nothing is asked again");
	snprintf(line, sizeof(line),
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
	    "\"progressToken\":%llu}}",
	    number);
	bench_say(&s, line);
	told(&s, KEEPER_MESSAGE, 5,
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
	    "\"progressToken\":\"tok\"}}");
	bench_send(&s, 1, 6, call);
	cr_assert_gt(bench_number(bench_heard(&s)), number, "numbers are never used again");
	snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}", number);
	bench_say(&s, line);
	told(&s, KEEPER_ANSWER, 5, "{\"jsonrpc\":\"2.0\",\"id\":\"me\",\"result\":{}}");
}

Test(estate, a_call_that_nobody_waits_for_stays_so)
{
	char line[200];

	bench_send(&s, 1, 5, call);
	unsigned long long number = bench_number(bench_heard(&s));
	peer_dispatch(
	    s.peer, &(struct frame){.type = KEEPER_FORGET, .request = 5}, (struct span){"", 0});
	bench_replace(&s);
	snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}", number);
	bench_say(&s, line);
	quiet(&s);
}

Test(estate, lines_go_on_in_the_middle)
{
	static const char line[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n";

	listen_on(1, 3);
	for (size_t cut = 1; cut < sizeof(line) - 1; cut += 9) {
		say_out(line, cut);
		bench_replace(&s);
		say_out(line + cut, sizeof(line) - 1 - cut);
		told(&s, KEEPER_MESSAGE, 3,
		    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}");
		quiet(&s);
	}
}

Test(estate, a_line_that_is_skipped_is_skipped_to_its_end)
{
	static const char end[] = "x\n{\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n";
	static char long_one[60000];

	listen_on(1, 3);
	memset(long_one, 'x', sizeof(long_one));
	say_out(long_one, sizeof(long_one));
	say_out(long_one, sizeof(long_one));
	bench_replace(&s);
	say_out(end, sizeof(end) - 1);
	told(&s, KEEPER_MESSAGE, 3, "{\"jsonrpc\":\"2.0\",\"method\":\"a\"}");
}

Test(estate, what_a_child_did_not_take_yet_follows)
{
	enum { SIZE = 200000 };
	char *message = malloc(SIZE + 100);
	struct buffer heard = {0};
	int head = snprintf(message, 100, "{\"jsonrpc\":\"2.0\",\"method\":\"");

	memset(message + head, 'm', SIZE);
	snprintf(message + head + SIZE, 4, "\"}");
	bench_send(&s, 1, 4, message);
	bench_wait(&s);
	for (int round = 0; round < 3; round++) {
		const char *part = bench_heard(&s);
		cr_assert_eq(buffer_append(&heard, part, strlen(part), SIZE + 200), 0);
		bench_replace(&s);
	}
	for (const char *part; *(part = bench_heard(&s));)
		cr_assert_eq(buffer_append(&heard, part, strlen(part), SIZE + 200), 0);
	cr_assert_eq(buffer_length(&heard), strlen(message) + 1);
	cr_assert_eq(memcmp(buffer_span(&heard).p, message, strlen(message)), 0);
	told(&s, KEEPER_ACCEPTED, 4, NULL);
	buffer_release(&heard);
	free(message);
}

Test(estate, frames_of_a_worker_go_on_in_the_middle)
{
	static const char message[] = "{\"jsonrpc\":\"2.0\",\"method\":\"a\"}";
	struct session_id id = bench_session(1);
	struct frame frame = {.magic = FRAME_MAGIC,
	    .version = FRAME_VERSION,
	    .type = KEEPER_SEND,
	    .request = 9,
	    .target = s.child->id,
	    .length = sizeof(id.bytes) + sizeof(message) - 1};
	char bytes[sizeof(frame) + sizeof(id.bytes) + sizeof(message) - 1];

	memcpy(bytes, &frame, sizeof(frame));
	memcpy(bytes + sizeof(frame), id.bytes, sizeof(id.bytes));
	memcpy(bytes + sizeof(frame) + sizeof(id.bytes), message, sizeof(message) - 1);
	for (size_t cut = 0; cut <= sizeof(bytes); cut += 11) {
		cr_assert_eq(send(s.worker, bytes, cut, 0), (ssize_t)cut);
		/* What was read is with the keeper, what was not in the socket. */
		if (cut % 2 == 0)
			bench_turn(&s);
		bench_replace(&s);
		cr_assert_eq(send(s.worker, bytes + cut, sizeof(bytes) - cut, 0),
		    (ssize_t)(sizeof(bytes) - cut));
		bench_turn(&s);
		cr_assert_str_eq(bench_heard(&s), "{\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n");
		told(&s, KEEPER_ACCEPTED, 9, NULL);
	}
}

Test(estate, what_a_worker_did_not_take_yet_follows)
{
	peer_tell(s.peer, KEEPER_ENDED, 77, s.child->id, NULL, 0);
	bench_replace(&s);
	told(&s, KEEPER_ENDED, 77, "");
}

Test(estate, what_is_held_waits_on)
{
	bench_send(&s, 1, 4, "{\"jsonrpc\":\"2.0\",\"method\":\"a\"}");
	told(&s, KEEPER_ACCEPTED, 4, NULL);
	bench_say(&s, "{\"jsonrpc\":\"2.0\",\"method\":\"first\"}");
	bench_say(&s, "{\"jsonrpc\":\"2.0\",\"method\":\"second\"}");
	bench_replace(&s);
	listen_on(1, 6);
	told(&s, KEEPER_MESSAGE, 6, "{\"jsonrpc\":\"2.0\",\"method\":\"first\"}");
	told(&s, KEEPER_MESSAGE, 6, "{\"jsonrpc\":\"2.0\",\"method\":\"second\"}");
}

Test(estate, who_waits_for_a_start_waits_on)
{
	s.child->state = INSTANCE_STARTING;
	bench_send(&s, 1, 4, "{\"jsonrpc\":\"2.0\",\"method\":\"first\"}");
	bench_send(&s, 1, 5, "{\"jsonrpc\":\"2.0\",\"method\":\"second\"}");
	bench_replace(&s);
	cr_assert_eq(s.child->state, INSTANCE_STARTING);
	cr_assert_str_eq(bench_heard(&s), "");
	instance_ready(s.child);
	waiters_run(&s.child->waiters);
	cr_assert_str_eq(bench_heard(&s), "{\"jsonrpc\":\"2.0\",\"method\":\"first\"}\n"
					  "{\"jsonrpc\":\"2.0\",\"method\":\"second\"}\n");
}

Test(estate, timers_go_on_where_they_were)
{
	s.child->state = INSTANCE_STARTING;
	ev_timer_set(&s.child->timer, 3, 0);
	ev_timer_start(s.keeper->loop, &s.child->timer);
	bench_replace(&s);
	cr_assert(ev_is_active(&s.child->timer));
	double left = ev_timer_remaining(s.keeper->loop, &s.child->timer);
	cr_assert(left > 1 && left <= 3, "%g s", left);
}

Test(estate, what_a_fleet_learned_is_not_forgotten)
{
	s.fleet->failures = 2;
	s.fleet->legacy = true;
	s.fleet->deaths = 7;
	s.keeper->last_id = 99;
	snprintf(s.fleet->last_error, sizeof(s.fleet->last_error), "it is tired");
	bench_replace(&s);
	cr_assert(s.fleet->failures == 2 && s.fleet->legacy && s.fleet->deaths == 7);
	cr_assert_str_eq(s.fleet->last_error, "it is tired");
	cr_assert_eq(s.keeper->last_id, 99, "ids are never used again");
}

Test(estate_shared, subscriptions_and_questions_stay)
{
	listen_on(1, 2);
	listen_on(2, 3);
	bench_send(&s, 2, 4,
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/"
	    "subscribe\",\"params\":{\"uri\":\"x:"
	    "1\"}}");
	bench_say(&s, "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"elicitation/create\"}");
	told(&s, KEEPER_MESSAGE, 4, NULL);
	bench_heard(&s);
	bench_replace(&s);
	bench_send(&s, 1, 5, "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":1}");
	cr_assert_str_eq(bench_heard(&s), "", "another was asked");
	told(&s, KEEPER_ACCEPTED, 5, NULL);
	bench_send(&s, 2, 6, "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":2}");
	cr_assert_str_eq(bench_heard(&s), "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":2}\n");
	told(&s, KEEPER_ACCEPTED, 6, NULL);
	bench_say(&s, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\","
		      "\"params\":{\"uri\":\"x:1\"}}");
	told(&s, KEEPER_MESSAGE, 4, NULL);
	quiet(&s);
}

Test(estate, a_call_fails_when_its_child_ended_in_between)
{
	bench_send(&s, 1, 5, call);
	bench_heard(&s);
	char line[200];
	bench_send(&s, 1, 6, call);
	snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{}}\n",
	    bench_number(bench_heard(&s)));
	/* As it is when nobody has read its last words. */
	cr_assert_eq(write(s.output, line, strlen(line)), (ssize_t)strlen(line));
	s.child_ended = true;
	bench_replace(&s);
	told(&s, KEEPER_ANSWER, 6, NULL);
	told(&s, KEEPER_FAILED, 5, NULL);
	while (!TAILQ_EMPTY(&s.keeper->remnants))
		ev_run(s.keeper->loop, EVRUN_ONCE);
}

/* --- what is scanned in turns
 * ----------------------------------------------------------------------- */

enum { LONG = 200 * 1024, MESSAGES = 4000 };

/* Notifications m0, m1 ... */
static void put_batch(struct buffer *out)
{
	for (int n = 0; n < MESSAGES; n++)
		cr_assert_eq(
		    buffer_printf(out, 4 * LONG, "%s{\"jsonrpc\":\"2.0\",\"method\":\"m%d\"}",
			n > 0 ? " , " : "[", n),
		    0);
	cr_assert_eq(buffer_append(out, "]", 1, 4 * LONG), 0);
}

Test(estate, a_line_that_is_scanned_is_scanned_anew)
{
	static char line[LONG];

	listen_on(1, 3);
	s.upstream.stdio.line = 2 * LONG;
	int n = snprintf(
	    line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"method\":\"long\",\"params\":{\"x\":\"");
	memset(line + n, 'x', sizeof(line) - (size_t)n);
	bench_write(&s, (struct span){line, sizeof(line)});
	bench_write(
	    &s, SPAN("\"}}\n{\"jsonrpc\":\"2.0\",\"method\":\"a\"}\n{\"jsonrpc\":\"2.0\",\"met"));
	cr_assert(s.child->scanning);
	for (int round = 0; round < 3; round++) {
		bench_turn(&s);
		bench_replace(&s);
		cr_assert(s.child->scanning);
		quiet(&s);
	}
	bench_wait(&s);
	told(&s, KEEPER_MESSAGE, 3, NULL);
	cr_expect_eq(strncmp(s.text, line, (size_t)n), 0);
	told(&s, KEEPER_MESSAGE, 3, "{\"jsonrpc\":\"2.0\",\"method\":\"a\"}");
	quiet(&s);
	say_out("hod\":\"b\"}\n", 10);
	told(&s, KEEPER_MESSAGE, 3, "{\"jsonrpc\":\"2.0\",\"method\":\"b\"}");
}

Test(estate, a_batch_of_a_child_goes_on_where_it_was)
{
	struct buffer batch = {0};
	char expected[64];

	listen_on(1, 3);
	s.upstream.stdio.line = 4 * LONG;
	put_batch(&batch);
	cr_assert_eq(buffer_append(&batch, "\n", 1, 4 * LONG), 0);
	bench_write(&s, buffer_span(&batch));
	for (int round = 0; s.child->scanning; round++) {
		for (int turns = 0; turns < 60; turns++)
			bench_turn(&s);
		bench_replace(&s);
		cr_assert_lt(round, 20);
	}
	for (int n = 0; n < MESSAGES; n++) {
		snprintf(expected, sizeof(expected), "{\"jsonrpc\":\"2.0\",\"method\":\"m%d\"}", n);
		told(&s, KEEPER_MESSAGE, 3, expected);
	}
	quiet(&s);
	buffer_release(&batch);
}

Test(estate, a_batch_for_a_child_goes_on_where_it_was)
{
	struct buffer batch = {0}, heard = {0};
	uint32_t answers;
	char expected[64];

	s.upstream.stdio.line = 4 * LONG;
	/* Its first message is a request, to which an answer will be owed. */
	cr_assert_eq(
	    buffer_printf(&batch, 4 * LONG, "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"},"),
	    0);
	put_batch(&batch);
	batch.data[strlen("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"},")] = ' ';
	cr_assert_eq(buffer_append(&batch, "", 1, 4 * LONG), 0);
	bench_send(&s, 1, 4, buffer_span(&batch).p);
	for (int round = 0; !TAILQ_EMPTY(&s.keeper->intake); round++) {
		for (int turns = 0; turns < 60; turns++) {
			bench_turn(&s);
			const char *part = bench_heard(&s);
			cr_assert_eq(buffer_append(&heard, part, strlen(part), 4 * LONG), 0);
		}
		bench_replace(&s);
		cr_assert_lt(round, 20);
	}
	told(&s, KEEPER_ACCEPTED, 4, NULL);
	memcpy(&answers, s.text, sizeof(answers));
	cr_expect_eq(answers, 1);
	cr_assert_eq(buffer_append(&heard, "", 1, 4 * LONG), 0);
	const char *at = strchr(buffer_span(&heard).p, '\n');
	for (int n = 0; n < MESSAGES; n++) {
		snprintf(
		    expected, sizeof(expected), "\n{\"jsonrpc\":\"2.0\",\"method\":\"m%d\"}", n);
		cr_assert(at && strncmp(at, expected, strlen(expected)) == 0, "%d: %.80s", n, at);
		at = strchr(at + 1, '\n');
	}
	cr_expect_str_eq(at, "\n");
	quiet(&s);
	buffer_release(&batch);
	buffer_release(&heard);
}

Test(estate, what_waits_behind_a_long_message_and_who_does_not_wait_goes_along)
{
	char *message = calloc(1, LONG);
	int n = snprintf(message, LONG,
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"long\",\"params\":{\"x\":\"");

	s.upstream.stdio.line = 4 * LONG;
	memset(message + n, 'x', (size_t)(LONG - n - 4));
	memcpy(message + LONG - 4, "\"}}", 4);
	bench_send(&s, 1, 4, message);
	bench_send(&s, 1, 5, "{\"jsonrpc\":\"2.0\",\"method\":\"behind\"}");
	intake_take(s.peer,
	    &(struct frame){.type = KEEPER_FORGET, .flags = KEEPER_CANCEL, .request = 4},
	    (struct span){"", 0}, 0);
	bench_turn(&s);
	bench_replace(&s);
	cr_assert_str_eq(bench_heard(&s), "");
	bench_wait(&s);
	struct buffer heard = {0};
	for (const char *part; *(part = bench_heard(&s));)
		cr_assert_eq(buffer_append(&heard, part, strlen(part), 2 * LONG), 0);
	cr_assert_eq(buffer_append(&heard, "", 1, 2 * LONG), 0);
	const char *at = strchr(buffer_span(&heard).p, '\n');
	cr_expect_eq(strncmp(buffer_span(&heard).p, message, 20), 0);
	cr_assert(at && (at = strstr(at, "notifications/cancelled")), "the first is forgotten");
	cr_assert(strstr(at, "behind"));
	told(&s, KEEPER_ACCEPTED, 5, NULL);
	quiet(&s);
	buffer_release(&heard);
	free(message);
}

Test(estate, a_child_that_ended_is_heard_to_the_end)
{
	static char line[LONG];

	s.upstream.stdio.line = 2 * LONG;
	bench_send(&s, 1, 5, call);
	bench_heard(&s);
	bench_send(&s, 1, 6, call);
	int n = snprintf(line, sizeof(line),
	    "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"result\":{\"x\":\"", bench_number(bench_heard(&s)));
	memset(line + n, 'x', sizeof(line) - (size_t)n - 4);
	memcpy(line + sizeof(line) - 4, "\"}}\n", 4);
	bench_write(&s, (struct span){line, sizeof(line)});
	cr_assert(s.child->scanning);
	s.child_ended = true;
	bench_replace(&s);
	cr_assert(s.child && s.child->scanning);
	quiet(&s);
	bench_wait(&s);
	told(&s, KEEPER_ANSWER, 6, NULL);
	told(&s, KEEPER_FAILED, 5, NULL);
	while (!TAILQ_EMPTY(&s.keeper->remnants))
		ev_run(s.keeper->loop, EVRUN_ONCE);
}
