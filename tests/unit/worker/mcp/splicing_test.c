/* splicing: what is whole in the end is what would have been composed at once, some of it in a
 * turn. */
#include "worker/mcp/splicing.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/envelope.h"
#include "worker/mcp/translate/translate.h"
#include "worker/worker.h"

enum { LONG = 5 * SPLICING_STEP + 17 };

static struct worker *worker;
static bool whole;

static void on_whole(void *owner)
{
	(void)owner;
	whole = true;
}

static void setup(void)
{
	worker = calloc(1, sizeof(*worker));
	cr_assert_not_null(worker);
	worker->loop = ev_loop_new(EVFLAG_AUTO);
}

static void teardown(void)
{
	ev_loop_destroy(worker->loop);
	free(worker);
}

TestSuite(splicing, .init = setup, .fini = teardown);

static char filling[LONG + 1];

/* The text with a long string for each `%`. Freed by the caller. */
static char *fill(const char *text)
{
	size_t n = strlen(text);
	char *out = malloc(n * LONG), *end = out;

	cr_assert_not_null(out);
	memset(filling, 'x', LONG);
	for (; *text; text++)
		end = *text == '%' ? mempcpy(end, filling, LONG) : mempcpy(end, text, 1);
	*end = '\0';
	return out;
}

/* As it is written to the other era. */
static void translate(struct compose *c, const struct envelope *e)
{
	static const struct client_identity who = {.capabilities = {"{}", 2}};
	struct translation t = {.method = mcp_method_find(SPAN("tools/call")),
	    .id = SPAN("1"),
	    .revision = MCP_2024_11_05};

	if (e->kind == ENVELOPE_REQUEST && e->meta_version.p)
		to_legacy_request(c, e, SPAN("7"));
	else if (e->kind == ENVELOPE_REQUEST)
		to_modern_request(c, e, SPAN("7"), &who, NULL);
	else if (raw_first(e->result, (const char *const[]){"resultType", NULL}) == 0)
		to_legacy_answer(c, e, &t);
	else
		to_modern_answer(c, e, &t);
	cr_assert_eq(c->error, 0);
}

static struct splicing *start(const char *text, struct buffer *out, struct buffer *flat)
{
	static struct envelope e;
	struct envelope_fault fault;
	struct compose once = {.out = flat, .bound = 16 * LONG};
	struct compose c = {.out = out, .bound = 16 * LONG, .cuts = &worker->cuts};

	cr_assert_eq(envelope_scan(span_of(text), 64, &e, &fault), 0, "%.200s", text);
	translate(&once, &e);
	worker->cuts = (struct compose_cuts){0};
	translate(&c, &e);
	cr_assert_gt(worker->cuts.count, 0);
	cr_assert_lt(buffer_length(out), (size_t)LONG, "nothing long is in it yet");
	cr_assert_eq(compose_length(&c), buffer_length(flat));
	struct splicing *s = splicing_start(worker, out, &worker->cuts, on_whole, NULL);
	cr_assert_not_null(s);
	return s;
}

Test(splicing, makes_what_would_have_been_composed_at_once)
{
	static const char *const texts[] = {
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[{\"type\":\"text\",\"text\":"
	    "\"%\"}],\"_meta\":{\"a\":\"%\",\"b\":1},\"x\":2}}",
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"complete\",\"content\":[{"
	    "\"type\":\"text\",\"text\":\"%\"},{\"type\":\"audio\",\"mimeType\":\"m\",\"data\":"
	    "\"%\"},{\"type\":\"text\",\"text\":\"short\"}],\"structuredContent\":{\"%\":1}}}",
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"a\":\"%\","
	    "\"arguments\":{\"b\":[\"%\"],\"c\":3},\"_meta\":{"
	    "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"d\":\"%\"}}}",
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"_meta\":{\"k\":"
	    "\"%\"},\"arguments\":\"%\"}}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct buffer out = {0}, flat = {0};
		char *text = fill(texts[i]);
		struct splicing *s = start(text, &out, &flat);
		size_t turns = 0;

		for (whole = false; !whole && turns < 1000; turns++)
			ev_run(worker->loop, EVRUN_NOWAIT);
		cr_assert(span_equal(buffer_span(&out), buffer_span(&flat)), "text %zu", i);
		cr_assert_geq(turns, buffer_length(&flat) / SPLICING_STEP, "some in a turn");
		splicing_free(s);
		buffer_release(&out);
		buffer_release(&flat);
		free(text);
	}
}

Test(splicing, that_is_stopped_leaves_the_text_alone)
{
	struct buffer out = {0}, flat = {0};
	char *text = fill("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"x\":\"%\"}}");
	struct splicing *s = start(text, &out, &flat);
	size_t n = buffer_length(&out);

	ev_run(worker->loop, EVRUN_NOWAIT);
	splicing_stop(s);
	free(text);
	for (int i = 0; i < 100; i++)
		ev_run(worker->loop, EVRUN_NOWAIT);
	cr_assert_not(whole);
	cr_assert_eq(buffer_length(&out), n);
	splicing_free(s);
	buffer_release(&out);
	buffer_release(&flat);
}
