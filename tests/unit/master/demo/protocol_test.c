/* protocol: messages in, messages out, in memory. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "master/demo/call.h"
#include "master/demo/protocol.h"

/* An exchange that remembers what it was given. */
struct recorder {
	struct exchange exchange;
	struct output sides;
	struct output answers;
	unsigned count; /* answers */
	unsigned none;  /* answers that were NULL */
	bool failed;
};

static struct server server;
static struct recorder recorder;
static char text[65536];

static struct recorder *recorder_of(struct exchange *x)
{
	return container_of(x, struct recorder, exchange);
}

static void on_side(struct exchange *x, const struct message *m)
{
	cr_assert_eq(message_output(m, &recorder_of(x)->sides), 0);
}

static void on_answer(struct exchange *x, const struct message *m)
{
	struct recorder *r = recorder_of(x);

	if (m) {
		r->count++;
		cr_assert_eq(message_output(m, &r->answers), 0);
	} else {
		r->none++;
	}
}

static void on_fail(struct exchange *x)
{
	recorder_of(x)->failed = true;
}

static const struct exchange_ops operations = {on_side, on_answer, on_fail};

static void recorder_init(struct recorder *r)
{
	*r = (struct recorder){0};
	exchange_init(&r->exchange, &operations);
	output_init(&r->sides);
	output_init(&r->answers);
}

static void recorder_release(struct recorder *r)
{
	exchange_close(&r->exchange);
	output_release(&r->sides);
	output_release(&r->answers);
}

/* The bytes, NUL-terminated; the output is empty afterwards. */
static const char *take(struct output *o)
{
	size_t n = o->total;
	int ends[2];

	cr_assert_lt(n, sizeof(text));
	cr_assert_eq(pipe(ends), 0);
	while (o->total > 0)
		cr_assert_eq(output_write(o, ends[1], 65536), 0);
	if (n > 0)
		cr_assert_eq(read(ends[0], text, n), (ssize_t)n);
	text[n] = '\0';
	close(ends[0]);
	close(ends[1]);
	return text;
}

static void dispatch(struct recorder *r, const char *message)
{
	struct incoming in;

	cr_assert_eq(incoming_parse(span_of(message), &in), 0);
	protocol_dispatch(&server, &r->exchange, &in);
	incoming_release(&in);
}

static const char *answer(const char *message)
{
	dispatch(&recorder, message);
	return take(&recorder.answers);
}

static void run_until_answered(struct recorder *r)
{
	while (r->exchange.pending > 0)
		ev_run(server.loop, EVRUN_ONCE);
}

static void initialize(struct recorder *r, const char *revision)
{
	char message[256];

	snprintf(message, sizeof(message),
	    "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
	    "\"protocolVersion\":\"%s\",\"capabilities\":{\"elicitation\":{}}}}",
	    revision);
	dispatch(r, message);
	cr_assert_not_null(r->exchange.session);
	output_release(&r->answers);
	r->count = 0;
}

static void set_up(void)
{
	server = (struct server){.loop = ev_loop_new(EVFLAG_AUTO)};
	session_table_init(&server.sessions, 4);
	recorder_init(&recorder);
}

static void tear_down(void)
{
	recorder_release(&recorder);
	session_table_release(&server.sessions);
	ev_loop_destroy(server.loop);
}

TestSuite(demo_protocol, .init = set_up, .fini = tear_down);

#define CALL(tool, arguments)                                                                  \
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"" tool \
	"\",\"arguments\":" arguments "}}"
#define CALL_TOKEN(tool, arguments)                                                            \
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"" tool \
	"\",\"arguments\":" arguments ",\"_meta\":{\"progressToken\":18446744073709551615}}}"
#define REQUEST(method, params) \
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"" method "\",\"params\":" params "}"

Test(demo_protocol, agrees_on_a_revision_it_knows)
{
	static const struct {
		const char *wanted;
		bool stdio;
		enum revision revision;
	} rows[] = {
	    {"2025-03-26", false, REVISION_2025_03_26},
	    {"2025-06-18", false, REVISION_2025_06_18},
	    {"2025-11-25", false, REVISION_2025_11_25},
	    {"2099-01-01", false, REVISION_2025_11_25},
	    {"2024-11-05", false, REVISION_2025_11_25},
	    {"2024-11-05", true, REVISION_2024_11_05},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		server.stdio = rows[i].stdio;
		initialize(&recorder, rows[i].wanted);
		cr_expect_eq(
		    recorder.exchange.session->revision, rows[i].revision, "%s", rows[i].wanted);
		exchange_close(&recorder.exchange);
	}
}

Test(demo_protocol, serves_nothing_but_ping_before_initialize)
{
	cr_assert_not_null(strstr(answer(CALL("echo", "{\"text\":\"a\"}")), "-32600"));
	cr_assert_str_eq(answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}"),
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
	cr_assert_not_null(strstr(
	    answer(REQUEST("initialize", "{\"protocolVersion\":\"2025-11-25\"}")), "-32602"));
	initialize(&recorder, "2025-11-25");
	cr_assert_not_null(strstr(answer(REQUEST("initialize",
				      "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}")),
	    "-32600"));
}

Test(demo_protocol, answers_every_method_and_refuses_wrong_arguments)
{
	static const struct {
		const char *message;
		const char *holds;
	} rows[] = {
	    {CALL("echo", "{\"text\":\"a\\\"b\"}"), "\"text\":\"a\\\"b\""},
	    {CALL("echo", "{\"text\":1}"), "\"isError\":true"},
	    {CALL("echo", "[]"), "\"isError\":true"},
	    {CALL("add", "{\"a\":0.5,\"b\":41.5}"), "\"structuredContent\":{\"sum\":42}"},
	    {CALL("add", "{\"a\":1e308,\"b\":1e308}"), "\"isError\":true"},
	    {CALL("big", "{\"bytes\":0}"), "\"text\":\"\""},
	    {CALL("big", "{\"bytes\":3}"), "\"text\":\"xxx\""},
	    {CALL("big", "{\"bytes\":1.5}"), "\"isError\":true"},
	    {CALL("big", "{\"bytes\":-1}"), "\"isError\":true"},
	    {CALL("big", "{\"bytes\":67108865}"), "\"isError\":true"},
	    {CALL("sleep", "{\"milliseconds\":-1}"), "\"isError\":true"},
	    {CALL("sleep", "{\"milliseconds\":1,\"steps\":0}"), "\"isError\":true"},
	    {CALL("sleep", "{\"milliseconds\":1,\"steps\":2.5}"), "\"isError\":true"},
	    {CALL("sleep", "{\"milliseconds\":1,\"steps\":1001}"), "\"isError\":true"},
	    {CALL("log", "{\"level\":\"loud\",\"text\":\"a\"}"), "\"isError\":true"},
	    {CALL("log", "{\"level\":\"info\",\"text\":\"a\"}"), "logged"},
	    {CALL("count", "{}"), "\"text\":\"1\""},
	    {CALL("count", "{}"), "\"text\":\"2\""},
	    {CALL("touch_resource", "{}"), "touched"},
	    {CALL("none", "{}"), "-32602"},
	    {REQUEST("tools/list", "{}"), "\"touch_resource\""},
	    {REQUEST("tools/list", "{\"cursor\":\"\"}"), "-32602"},
	    {REQUEST("resources/list", "{}"), "demo://greeting"},
	    {REQUEST("resources/templates/list", "{}"), "demo://greeting/{name}"},
	    {REQUEST("resources/read", "{\"uri\":\"demo://greeting\"}"), "Hello"},
	    {REQUEST("resources/read", "{\"uri\":\"demo://greeting/Ann\"}"), "Hello, Ann."},
	    {REQUEST("resources/read", "{\"uri\":\"demo://greeting/\"}"), "-32002"},
	    {REQUEST("resources/read", "{}"), "-32602"},
	    {REQUEST("resources/subscribe", "{\"uri\":\"demo://other\"}"), "-32002"},
	    {REQUEST("resources/unsubscribe", "{\"uri\":\"demo://greeting\"}"), "\"result\":{}"},
	    {REQUEST("prompts/list", "{}"), "summarize"},
	    {REQUEST("prompts/get", "{\"name\":\"summarize\",\"arguments\":{\"text\":\"T\"}}"),
		"\\n\\nT"},
	    {REQUEST("prompts/get", "{\"name\":\"summarize\"}"), "-32602"},
	    {REQUEST("completion/complete",
		 "{\"ref\":{\"type\":\"ref/prompt\",\"name\":\"summarize\"},"
		 "\"argument\":{\"name\":\"text\",\"value\":\"a n\"}}"),
		"\"values\":[\"a newspaper article\",\"a novel\"],\"total\":2"},
	    {REQUEST("completion/complete", "{}"), "-32602"},
	    {REQUEST("logging/setLevel", "{\"level\":\"emergency\"}"), "\"result\":{}"},
	    {REQUEST("logging/setLevel", "{\"level\":7}"), "-32602"},
	    {CALL("log", "{\"level\":\"alert\",\"text\":\"a\"}"), "below"},
	    {REQUEST("no/such", "{}"), "-32601"},
	};

	initialize(&recorder, "2025-11-25");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *got = answer(rows[i].message);
		cJSON *json = cJSON_Parse(got);

		cr_expect_not_null(
		    json ? strstr(got, rows[i].holds) : NULL, "%s: %s", rows[i].message, got);
		cr_expect_eq(recorder.exchange.pending, 0);
		cJSON_Delete(json);
	}
	cr_expect_not_null(strstr(take(&recorder.sides), "notifications/message"));
}

Test(demo_protocol, gives_an_id_back_as_it_came)
{
	static const struct {
		const char *sent, *back;
	} rows[] = {
	    {"0", "0"},
	    {"-7", "-7"},
	    {"12345678901234567890", "12345678901234567890"},
	    {"9223372036854775807", "9223372036854775807"},
	    {"\"\"", "\"\""},
	    {"\"a\\u0041\"", "\"aA\""},
	    {"1e3", "1000"},
	    {"007", "7"},
	    {"null", "null,\"error\":{\"code\":-32600"},
	    {"1.5", "null,\"error\":{\"code\":-32600"},
	    {"1e400", "null,\"error\":{\"code\":-32600"},
	    {"[]", "null,\"error\":{\"code\":-32600"},
	};
	char message[256], wanted[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(message, sizeof(message),
		    "{\"method\":\"ping\",\"id\" : %s ,\"jsonrpc\":\"2.0\"}", rows[i].sent);
		snprintf(wanted, sizeof(wanted), "\"id\":%s", rows[i].back);
		const char *got = answer(message);
		cr_expect_not_null(strstr(got, wanted), "%s: %s", rows[i].sent, got);
	}
}

Test(demo_protocol, refuses_text_that_is_not_json)
{
	static const char *const rows[] = {"", " ", "{", "{}{}", "{} x", "[1,", "\"", "nul"};
	struct incoming in;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(incoming_parse(span_of(rows[i]), &in), -EBADMSG, "%s", rows[i]);
	memset(text, '[', sizeof(text));
	cr_expect_eq(incoming_parse((struct span){text, sizeof(text)}, &in), -EBADMSG);
}

Test(demo_protocol, has_batches_in_2025_03_26_only)
{
	static const char batch[] = "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"},"
				    "{\"jsonrpc\":\"2.0\",\"method\":\"ping\"},"
				    "7,{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"initialize\"}]";

	cr_assert_not_null(strstr(answer(batch), "-32600"));
	initialize(&recorder, "2025-06-18");
	cr_assert_not_null(strstr(answer(batch), "Only revision"));
	exchange_close(&recorder.exchange);
	initialize(&recorder, "2025-03-26");
	const char *got = answer(batch);
	cr_assert_eq(recorder.count, 3, "%s", got);
	cr_assert_not_null(strstr(got, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"));
	cr_assert_not_null(strstr(got, "\"id\":null"));
	cr_assert_not_null(strstr(got, "may not be in a batch"));
	cr_assert_not_null(strstr(answer("[]"), "at least one"));
	size_t n = (size_t)snprintf(text, sizeof(text), "[0");
	for (int i = 0; i < BATCH_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ",0");
	snprintf(text + n, sizeof(text) - n, "]");
	cr_assert_not_null(strstr(answer(text), "Too many"));
	cr_assert_eq(recorder.exchange.pending, 0);
}

Test(demo_protocol, sleeps_in_steps_and_tells_each)
{
	unsigned steps = 0;

	initialize(&recorder, "2025-11-25");
	dispatch(&recorder, CALL_TOKEN("sleep", "{\"milliseconds\":3,\"steps\":3}"));
	cr_assert_eq(recorder.count, 0);
	run_until_answered(&recorder);
	cr_assert_not_null(strstr(take(&recorder.answers), "slept 3 ms"));
	for (const char *at = take(&recorder.sides);
	     (at = strstr(at, "\"progressToken\":18446744073709551615")); at++)
		steps++;
	cr_assert_eq(steps, 3);
}

Test(demo_protocol, a_cancelled_call_gets_no_answer)
{
	initialize(&recorder, "2025-11-25");
	dispatch(&recorder, CALL("sleep", "{\"milliseconds\":3600000}"));
	dispatch(&recorder, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
			    "\"params\":{\"requestId\":\"1\"}}");
	cr_assert_eq(recorder.exchange.pending, 1, "another id");
	dispatch(&recorder, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
			    "\"params\":{\"requestId\":1}}");
	cr_assert_eq(recorder.exchange.pending, 0);
	cr_assert_eq(recorder.none, 1);
	cr_assert_eq(recorder.count, 0);
}

Test(demo_protocol, ask_carries_the_answer_over)
{
	static const struct {
		const char *response, *holds;
	} rows[] = {
	    {"\"result\":{\"action\":\"accept\",\"content\":{\"answer\":\"blue\"}}",
		"\"text\":\"blue\""},
	    {"\"result\":{\"action\":\"decline\"}", "\"text\":\"decline\""},
	    {"\"error\":{\"code\":-1,\"message\":\"no user\"}", "no user"},
	    {"\"result\":{\"action\":\"accept\"}", "\"isError\":true"},
	    {"\"result\":7", "\"isError\":true"},
	};
	char message[256];

	initialize(&recorder, "2025-11-25");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		dispatch(&recorder, CALL("ask", "{\"question\":\"Colour?\"}"));
		const char *asked = take(&recorder.sides);
		snprintf(message, sizeof(message), "\"id\":\"ask-%zu\"", i + 1);
		cr_assert_not_null(strstr(asked, message), "%s", asked);
		cr_assert_not_null(strstr(asked, "\"mode\":\"form\""));
		dispatch(&recorder, "{\"jsonrpc\":\"2.0\",\"id\":\"ask-99\",\"result\":{}}");
		cr_assert_eq(recorder.exchange.pending, 1);
		snprintf(message, sizeof(message), "{\"jsonrpc\":\"2.0\",\"id\":\"ask-%zu\",%s}",
		    i + 1, rows[i].response);
		const char *got = answer(message);
		cr_expect_not_null(strstr(got, rows[i].holds), "%s", got);
		cr_assert_eq(recorder.exchange.pending, 0);
	}
}

Test(demo_protocol, asks_only_clients_that_can_be_asked)
{
	initialize(&recorder, "2025-03-26");
	cr_assert_not_null(
	    strstr(answer(CALL("ask", "{\"question\":\"?\"}")), "elicitation capability"));
}

Test(demo_protocol, an_ended_session_answers_what_runs)
{
	initialize(&recorder, "2025-11-25");
	dispatch(&recorder, CALL("sleep", "{\"milliseconds\":3600000}"));
	session_end(recorder.exchange.session);
	cr_assert_null(recorder.exchange.session);
	cr_assert_not_null(strstr(take(&recorder.answers), "The session ended"));
	cr_assert_eq(recorder.exchange.pending, 0);
}

Test(demo_protocol, runs_a_bounded_number_of_calls)
{
	initialize(&recorder, "2025-11-25");
	for (int i = 0; i < 256; i++)
		dispatch(&recorder, CALL("sleep", "{\"milliseconds\":3600000}"));
	cr_assert_eq(recorder.count, 0);
	cr_assert_not_null(
	    strstr(answer(CALL("sleep", "{\"milliseconds\":3600000}")), "Too many calls"));
}

Test(demo_protocol, only_idle_sessions_give_way)
{
	struct recorder busy[4];
	struct session *s;
	char oldest[DEMO_SESSION_ID_TEXT + 1];

	for (int i = 0; i < 4; i++) {
		recorder_init(&busy[i]);
		initialize(&busy[i], "2025-11-25");
	}
	cr_assert_eq(session_create(&server.sessions, &s), -ENOBUFS);
	cr_assert_not_null(
	    strstr(answer(REQUEST("initialize", "{\"protocolVersion\":\"x\",\"capabilities\":{}}")),
		"Too many sessions"));
	memcpy(oldest, busy[2].exchange.session->id, sizeof(oldest));
	recorder_release(&busy[2]);
	recorder_release(&busy[1]);
	initialize(&recorder, "2025-11-25");
	cr_assert_null(session_find(&server.sessions, span_of(oldest)));
	recorder_release(&busy[0]);
	recorder_release(&busy[3]);
}

Test(demo_protocol, an_update_goes_out_once_on_one_stream)
{
	struct recorder streams[2];

	initialize(&recorder, "2025-11-25");
	answer(REQUEST("resources/subscribe", "{\"uri\":\"demo://greeting\"}"));
	answer(CALL("touch_resource", "{}"));
	answer(CALL("touch_resource", "{}"));
	cr_assert_not(session_notify(&server.sessions, 1));
	cr_assert_eq(recorder.sides.total, 0, "no stream is open yet");
	for (int i = 0; i < 2; i++) {
		recorder_init(&streams[i]);
		session_enter(recorder.exchange.session, &streams[i].exchange);
		session_stream(recorder.exchange.session, &streams[i].exchange);
	}
	cr_assert_str_eq(take(&streams[0].sides),
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\","
	    "\"params\":{\"uri\":\"demo://greeting\"}}");
	cr_assert_eq(streams[1].sides.total, 0);
	answer(REQUEST("resources/unsubscribe", "{\"uri\":\"demo://greeting\"}"));
	answer(CALL("touch_resource", "{}"));
	session_notify(&server.sessions, 1);
	cr_assert_eq(streams[0].sides.total, 0);
	for (int i = 0; i < 2; i++)
		recorder_release(&streams[i]);
}

/* Allocations of cJSON until one fails; negative: none fails. */
static int allocations_left = -1;

static void *failing_malloc(size_t n)
{
	if (allocations_left == 0)
		return NULL;
	if (allocations_left > 0)
		allocations_left--;
	return malloc(n);
}

/* Whatever allocation fails, an answer is whole or the exchange fails, and nothing hangs. */
Test(demo_protocol, out_of_memory_never_makes_half_an_answer)
{
	static const char *const rows[] = {
	    REQUEST("tools/list", "{}"),
	    REQUEST("resources/read", "{\"uri\":\"demo://greeting\"}"),
	    REQUEST("prompts/get", "{\"name\":\"summarize\",\"arguments\":{\"text\":\"T\"}}"),
	    REQUEST("completion/complete",
		"{\"ref\":{\"type\":\"ref/prompt\",\"name\":\"summarize\"},"
		"\"argument\":{\"name\":\"text\",\"value\":\"a n\"}}"),
	    CALL("echo", "{\"text\":\"a\"}"),
	    CALL("log", "{\"level\":\"error\",\"text\":\"a\"}"),
	    CALL_TOKEN("sleep", "{\"milliseconds\":0}"),
	    REQUEST("no/such", "{}"),
	};
	cJSON_Hooks hooks = {failing_malloc, free};
	struct incoming in;
	static char whole[65536];

	initialize(&recorder, "2025-11-25");
	cJSON_InitHooks(&hooks);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		dispatch(&recorder, rows[i]);
		run_until_answered(&recorder);
		strcpy(whole, take(&recorder.answers));
		output_release(&recorder.sides);
		bool survived = false;
		for (int after = 0; !survived; after++) {
			cr_assert_eq(incoming_parse(span_of(rows[i]), &in), 0);
			recorder.failed = false;
			allocations_left = after;
			protocol_dispatch(&server, &recorder.exchange, &in);
			run_until_answered(&recorder);
			survived = allocations_left > 0;
			allocations_left = -1;
			incoming_release(&in);
			const char *got = take(&recorder.answers);
			if (!recorder.failed)
				cr_assert_str_eq(
				    got, whole, "%s after %d: %s", rows[i], after, got);
			output_release(&recorder.sides);
		}
		cr_assert_not(recorder.failed);
	}
	cJSON_InitHooks(NULL);
}
