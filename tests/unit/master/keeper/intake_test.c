/* intake: long messages are scanned in turns, and nothing overtakes them that must not. */
#include "master/keeper/intake.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/master/keeper/expect.h"

static struct bench s;

enum { LONG = 200 * 1024, MESSAGES = 4000 };

static const char behind[] = "{\"jsonrpc\":\"2.0\",\"method\":\"behind\"}";

static void open_own(void)
{
	bench_open(&s, CONFIG_PER_SESSION);
	s.upstream.stdio.line = 4 * LONG;
}

static void open_shared(void)
{
	bench_open(&s, CONFIG_SHARED);
	s.upstream.stdio.line = 4 * LONG;
}

static void close_stage(void)
{
	bench_close(&s);
}

TestSuite(intake, .init = open_own, .fini = close_stage);
TestSuite(intake_shared, .init = open_shared, .fini = close_stage);

/* A message of `n` bytes that begins so; the rest of it are x. */
static char *message_of(const char *beginning, size_t n)
{
	char *message = malloc(n + 1);
	size_t head = strlen(beginning);

	cr_assert(message);
	memcpy(message, beginning, head);
	memset(message + head, 'x', n - head - 3);
	memcpy(message + n - 3, "\"}}", 4);
	return message;
}

static const char request[] =
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"long\",\"params\":{\"x\":\"";

/* All that the child gets until it gets nothing more; to be freed. */
static char *heard_all(void)
{
	struct buffer all = {0};

	for (const char *part; *(part = bench_heard(&s));)
		cr_assert_eq(buffer_append(&all, part, strlen(part), 8 * LONG), 0);
	cr_assert_eq(buffer_append(&all, "", 1, 8 * LONG), 0);
	return all.data;
}

static void tell(enum keeper_type type, uint32_t number)
{
	struct session_id id = bench_session(1);
	struct frame frame = {.type = (uint16_t)type, .request = number, .target = s.child->id};

	intake_take(s.peer, &frame, (struct span){(const char *)id.bytes, sizeof(id.bytes)}, 0);
}

/* That the lines of a text begin so, one after the other. */
static void lines_begin(const char *text, const char *const beginnings[])
{
	for (int n = 0; beginnings[n]; n++) {
		cr_assert(
		    strncmp(text, beginnings[n], strlen(beginnings[n])) == 0, "%d: %.80s", n, text);
		text = strchr(text, '\n');
		cr_assert(text++);
	}
	cr_expect_str_eq(text, "");
}

Test(intake, a_long_message_is_scanned_in_turns_and_its_session_waits)
{
	char *message = message_of(request, LONG);

	bench_send(&s, 1, 4, message);
	bench_send(&s, 1, 5, behind);
	cr_expect_str_eq(bench_heard(&s), "");
	cr_expect_geq(bench_wait(&s), LONG / SCANNING_STEP);
	char *heard = heard_all();
	lines_begin(heard, (const char *const[]){"{\"jsonrpc\":\"2.0\",\"id\":", behind, NULL});
	cr_expect_eq(bench_number(heard), s.keeper->last_number);
	told(&s, KEEPER_ACCEPTED, 5, NULL);
	quiet(&s);
	cr_expect_eq(s.keeper->intake_bytes, 0);
	free(heard);
	free(message);
}

Test(intake_shared, nobody_else_waits)
{
	char *message = message_of(request, LONG);

	bench_send(&s, 1, 4, message);
	bench_send(&s, 2, 5, behind);
	told(&s, KEEPER_ACCEPTED, 5, NULL);
	cr_expect(strstr(bench_heard(&s), "behind"));
	bench_wait(&s);
	free(heard_all());
	free(message);
}

Test(intake, several_keep_their_order)
{
	char *first = message_of(request, LONG + 40000), *second = message_of(request, LONG);

	bench_send(&s, 1, 4, first);
	bench_send(&s, 1, 5, behind);
	bench_send(&s, 1, 6, second);
	bench_send(&s, 1, 7, behind);
	bench_wait(&s);
	char *heard = heard_all();
	lines_begin(heard, (const char *const[]){"{\"jsonrpc\":\"2.0\",\"id\":", behind,
			       "{\"jsonrpc\":\"2.0\",\"id\":", behind, NULL});
	told(&s, KEEPER_ACCEPTED, 5, NULL);
	told(&s, KEEPER_ACCEPTED, 7, NULL);
	free(heard);
	free(first);
	free(second);
}

Test(intake, what_is_no_request_any_more_is_sent_all_the_same)
{
	char *message =
	    message_of("{\"jsonrpc\":\"2.0\",\"method\":\"long\",\"params\":{\"x\":\"", LONG);

	bench_send(&s, 1, 4, message);
	tell(KEEPER_FORGET, 4);
	bench_wait(&s);
	char *heard = heard_all();
	lines_begin(heard, (const char *const[]){"{\"jsonrpc\":\"2.0\",\"method\":\"long\"", NULL});
	free(heard);
	free(message);
}

Test(intake, the_end_of_a_session_comes_after_what_it_sent)
{
	char *message = message_of(request, LONG);

	bench_send(&s, 1, 4, message);
	tell(KEEPER_CLOSE, 0);
	cr_expect_eq(s.child->state, INSTANCE_READY);
	bench_wait(&s);
	cr_expect_eq(s.child->state, INSTANCE_GONE);
	told(&s, KEEPER_FAILED, 4, NULL);
	free(message);
}

Test(intake, a_worker_that_goes_takes_its_messages_along)
{
	char *message = message_of(request, LONG);

	bench_send(&s, 1, 4, message);
	bench_send(&s, 1, 5, behind);
	bench_turn(&s);
	peer_close(s.peer, "the test says so");
	cr_expect(TAILQ_EMPTY(&s.keeper->intake));
	cr_expect_eq(s.keeper->intake_bytes, 0);
	bench_turn(&s);
	cr_expect_str_eq(bench_heard(&s), "");
	free(message);
}

Test(intake, a_child_that_is_stopped_meanwhile_gets_nothing)
{
	char *message = message_of(request, LONG);

	bench_send(&s, 1, 4, message);
	bench_turn(&s);
	instance_stop(s.child, "the test says so");
	bench_wait(&s);
	told(&s, KEEPER_GONE, 4, NULL);
	quiet(&s);
	free(message);
}

Test(intake, who_did_not_greet_is_not_scanned)
{
	char *message = message_of(request, LONG);

	s.peer->greeted = false;
	bench_send(&s, 1, 4, message);
	cr_expect(s.peer->closed);
	cr_expect(TAILQ_EMPTY(&s.keeper->intake));
	free(message);
}

/* Notifications m0, m1 ...; to be freed. */
static char *batch_of(unsigned messages)
{
	struct buffer out = {0};

	for (unsigned n = 0; n < messages; n++)
		cr_assert_eq(
		    buffer_printf(&out, 4 * LONG, "%s{\"jsonrpc\":\"2.0\",\"method\":\"m%u\"}",
			n > 0 ? "," : "[", n),
		    0);
	cr_assert_eq(buffer_append(&out, "]", 2, 4 * LONG), 0);
	return out.data;
}

Test(intake, a_long_batch_is_sent_in_turns)
{
	char *batch = batch_of(MESSAGES), expected[64];
	struct buffer heard = {0};

	bench_send(&s, 1, 4, batch);
	bench_send(&s, 1, 5, behind);
	while (!TAILQ_EMPTY(&s.keeper->intake)) {
		bench_turn(&s);
		size_t before = buffer_length(&heard);
		const char *part = bench_heard(&s);
		cr_assert_eq(buffer_append(&heard, part, strlen(part), 4 * LONG), 0);
		cr_assert_lt(buffer_length(&heard) - before, 4096);
	}
	cr_assert_eq(buffer_append(&heard, "", 1, 4 * LONG), 0);
	const char *at = heard.data;
	for (unsigned n = 0; n < MESSAGES; n++) {
		snprintf(
		    expected, sizeof(expected), "{\"jsonrpc\":\"2.0\",\"method\":\"m%u\"}\n", n);
		cr_assert(strncmp(at, expected, strlen(expected)) == 0, "%u: %.80s", n, at);
		at += strlen(expected);
	}
	lines_begin(at, (const char *const[]){behind, NULL});
	told(&s, KEEPER_ACCEPTED, 4, NULL);
	told(&s, KEEPER_ACCEPTED, 5, NULL);
	quiet(&s);
	buffer_release(&heard);
	free(batch);
}

Test(intake_shared, a_batch_ends_with_its_session)
{
	char *batch = batch_of(MESSAGES);

	bench_send(&s, 1, 4, batch);
	for (int turns = 0; turns < 10; turns++)
		bench_turn(&s);
	struct session_id id = bench_session(1);
	cr_assert(link_find(s.child, &id));
	link_free(link_find(s.child, &id));
	bench_wait(&s);
	told(&s, KEEPER_FAILED, 4, NULL);
	quiet(&s);
	cr_expect_not(link_find(s.child, &id), "it is not made anew");
	free(batch);
}

Test(intake, a_long_message_without_a_session)
{
	char *message = message_of(
	    "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"m\",\"params\":{\"x\":\"", LONG);

	s.child->stateless = s.child->shared = true;
	bench_ask(&s, 6, message);
	cr_expect_str_eq(bench_heard(&s), "");
	bench_wait(&s);
	char *heard = heard_all();
	lines_begin(heard, (const char *const[]){"{\"jsonrpc\":\"2.0\",\"id\":", NULL});
	free(heard);
	message[LONG / 2] = '\n';
	bench_ask(&s, 7, message);
	bench_wait(&s);
	told(&s, KEEPER_FAILED, 7, NULL);
	free(message);
}
