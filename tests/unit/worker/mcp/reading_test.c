/* reading: whatever the length of messages, and however they come, each is given once and in its
 * order. */
#include "worker/mcp/reading.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "worker/worker.h"

enum { BOUND = 4 * 1024 * 1024, MESSAGES_MAX = 16 };

static struct worker *worker;
static struct config config = {.limits = {.json_depth = 16}};
static struct reading reading;
static struct {
	size_t lengths[MESSAGES_MAX];
	bool lasting[MESSAGES_MAX];
	unsigned count, enough_at; /* 0: never */
	unsigned caught_up;
	int error;
} seen;

static bool on_message(struct reading *r, struct span text, int error, const struct envelope *e)
{
	cr_assert(seen.count < MESSAGES_MAX);
	cr_assert_not(r->busy);
	if (!error)
		cr_expect(text.p[0] == '{' && text.p[text.n - 1] == '}' && e->text.n == text.n);
	seen.lengths[seen.count] = error ? 0 : text.n;
	seen.lasting[seen.count++] = r->lasting;
	return seen.count == seen.enough_at;
}

static void on_caught_up(struct reading *r, int error)
{
	cr_assert_not(r->busy);
	seen.caught_up++;
	seen.error = error;
}

static const struct reading_ops ops = {.message = on_message, .caught_up = on_caught_up};

static void begin(void)
{
	memset(&seen, 0, sizeof(seen));
	reading = (struct reading){.worker = worker, .ops = &ops, .bound = BOUND};
}

static void setup(void)
{
	worker = calloc(1, sizeof(*worker));
	cr_assert_not_null(worker);
	worker->loop = ev_loop_new(EVFLAG_AUTO);
	worker->config = &config;
	begin();
}

static void teardown(void)
{
	reading_release(&reading);
	ev_loop_destroy(worker->loop);
	free(worker);
}

TestSuite(reading, .init = setup, .fini = teardown);

/* An event whose message is so long; 0: it is none. */
static void put_event(struct buffer *out, size_t length)
{
	static const char head[] = "data: {\"jsonrpc\":\"2.0\",\"method\":\"", tail[] = "\"}\n\n";
	size_t n = length ? length - (strlen(head) - 6) - 2 : 2 * SCANNING_SHORT;
	char *fill = malloc(n);

	cr_assert_not_null(fill);
	memset(fill, 'x', n);
	cr_assert_eq(BUFFER_ADD(out, 2 * BOUND, span_of(length ? head : "data: "),
			 (struct span){fill, n}, span_of(length ? tail : "\n\n")),
	    0);
	free(fill);
}

/* Turns are taken while it is busy, and now and then before. */
static int feed(struct span text, size_t piece)
{
	for (size_t at = 0; at < text.n; at += piece) {
		size_t n = text.n - at < piece ? text.n - at : piece;
		int status = reading_feed(&reading, text.p + at, n);
		if (status)
			return status;
		if (at / piece % 3 == 0)
			ev_run(worker->loop, EVRUN_NOWAIT);
	}
	return 0;
}

static const size_t lengths[] = {100, 3 * SCANNING_STEP, SCANNING_SHORT, SCANNING_SHORT + 1, 0, 99,
    500000, 300000, 101, SCANNING_SHORT + 17};
enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };

Test(reading, gives_each_message_once_and_in_order)
{
	static const size_t pieces[] = {1021, 16384, 65537, 288 * 1024, 2 * BOUND};
	struct buffer text = {0};

	for (unsigned i = 0; i < COUNT; i++)
		put_event(&text, lengths[i]);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		begin();
		cr_assert_eq(feed(buffer_span(&text), pieces[i]), 0);
		if (reading_end(&reading, 7, "detail"))
			ev_run(worker->loop, 0);
		cr_assert_eq(seen.count, COUNT, "%u in pieces of %zu", seen.count, pieces[i]);
		for (unsigned m = 0; m < COUNT; m++) {
			cr_expect_eq(seen.lengths[m], lengths[m], "%u: %zu", m, seen.lengths[m]);
			cr_expect_eq(seen.lasting[m], lengths[m] > SCANNING_SHORT || !lengths[m]);
		}
		cr_expect(seen.caught_up > 0 && !seen.error);
		cr_expect(reading.ended && reading.reason == 7);
		cr_expect_str_eq(reading.detail, "detail");
		reading_release(&reading);
	}
	buffer_release(&text);
}

Test(reading, gives_no_more_than_is_wanted)
{
	struct buffer text = {0};

	for (unsigned i = 0; i < COUNT; i++)
		put_event(&text, lengths[i]);
	for (unsigned enough = 1; enough <= COUNT; enough++) {
		begin();
		seen.enough_at = enough;
		int status = reading_feed(&reading, buffer_span(&text).p, buffer_span(&text).n);
		cr_assert(status >= 0);
		ev_run(worker->loop, 0);
		cr_expect_eq(seen.count, enough);
		/* What was given last is where it was. */
		if (seen.lasting[enough - 1] && lengths[enough - 1])
			cr_expect_eq(buffer_length(&reading.text), lengths[enough - 1]);
		reading_release(&reading);
	}
	buffer_release(&text);
}

Test(reading, gives_nothing_when_it_was_stopped)
{
	struct buffer text = {0};

	put_event(&text, 300000);
	put_event(&text, 100);
	cr_assert_eq(reading_feed(&reading, buffer_span(&text).p, buffer_length(&text)), 0);
	cr_assert(reading.busy);
	reading_stop(&reading);
	ev_run(worker->loop, 0);
	cr_expect_eq(seen.count + seen.caught_up, 0);
	/* Another answer, on the same errand. */
	reading_reset(&reading);
	cr_assert_not(reading_end(&reading, -1, ""));
	reading_reset(&reading);
	cr_assert_eq(feed(buffer_span(&text), 2 * BOUND), 0);
	ev_run(worker->loop, 0);
	cr_expect(seen.count == 2 && seen.caught_up == 1 && !reading.ended);
	buffer_release(&text);
}

Test(reading, keeps_no_more_than_its_bound)
{
	struct buffer text = {0};
	int status = 0;

	put_event(&text, 300000);
	for (int i = 0; i < BOUND / 300000 + 2 && !status; i++)
		status = reading_feed(&reading, buffer_span(&text).p, buffer_length(&text));
	cr_expect_eq(status, -EMSGSIZE);
	buffer_release(&text);
}

Test(reading, tells_what_is_too_long_behind_a_long_message)
{
	struct buffer text = {0};

	put_event(&text, 300000);
	put_event(&text, BOUND + 1000);
	for (size_t at = 0; at < buffer_length(&text); at += BOUND) {
		size_t n = buffer_length(&text) - at < BOUND ? buffer_length(&text) - at : BOUND;
		int status = reading_feed(&reading, buffer_span(&text).p + at, n);
		if (at == 0)
			cr_assert_eq(status, 0);
		else
			cr_assert_eq(status, -EMSGSIZE);
		ev_run(worker->loop, 0);
	}
	cr_expect_eq(seen.count, 1);
	buffer_release(&text);
}
