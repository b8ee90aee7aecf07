/* envelope: what is a message, what is not, and that nothing of it is changed. */
#include "common/envelope.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 8 };

static struct envelope e;
static struct envelope_fault fault;

/* Scan an exact copy, so that ASan sees a read past the end. The spans point into *copy, to be
 * freed. */
static int scan(struct span text, char **copy)
{
	*copy = malloc(text.n ? text.n : 1);
	if (text.n > 0)
		memcpy(*copy, text.p, text.n);
	return envelope_scan((struct span){*copy, text.n}, DEPTH, &e, &fault);
}

/* 0, or the JSON-RPC code of the refusal. */
static int verdict(struct span text)
{
	char *copy;
	int status = scan(text, &copy);

	free(copy);
	cr_assert(status == 0 || status == -EINVAL || status == -E2BIG);
	return status == 0 ? 0 : fault.code;
}

static const char call[] =
    "{ \"jsonrpc\" : \"2.0\",\"id\":12345678901234567890 ,\"method\":\"tools/call\","
    "\"params\":{\"name\":\"echo\",\"arguments\":{\"x\":1e400,\"name\":\"inner\"},"
    "\"_meta\":{\"progressToken\":9007199254740993,"
    "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}}}";

Test(envelope, finds_what_a_gateway_needs_and_leaves_numbers_alone)
{
	char *copy;

	cr_assert_eq(scan(SPAN(call), &copy), 0, "%s", fault.reason);
	cr_assert_eq(e.kind, ENVELOPE_REQUEST);
	cr_assert(span_equal(e.id, SPAN("12345678901234567890")));
	cr_assert(span_equal(e.method, SPAN("tools/call")));
	cr_assert(span_equal(e.name, SPAN("echo")));
	cr_assert(span_equal(e.progress_token, SPAN("9007199254740993")));
	cr_assert(span_equal(e.meta_version, SPAN("2026-07-28")));
	cr_assert_null(e.uri.p);
	cr_assert_eq(e.params.p[0], '{');
	cr_assert_eq(e.params.p[e.params.n - 1], '}');
	free(copy);
}

Test(envelope, tells_the_four_kinds_apart)
{
	char *copy;

	cr_assert_eq(scan(SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/"
			       "cancelled\",\"params\":{\"requestId\":7}}"),
			 &copy),
	    0);
	cr_assert_eq(e.kind, ENVELOPE_NOTIFICATION);
	cr_assert(span_equal(e.cancelled_id, SPAN("7")));
	free(copy);
	cr_assert_eq(scan(SPAN("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{\"protocolVersion\":"
			       "\"2025-11-25\"}}"),
			 &copy),
	    0);
	cr_assert_eq(e.kind, ENVELOPE_RESULT);
	cr_assert(span_equal(e.id, SPAN("\"a\"")));
	cr_assert(span_equal(e.protocol_version, SPAN("2025-11-25")));
	free(copy);
	cr_assert_eq(
	    scan(SPAN("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-1,\"message\":\"\"}}"),
		&copy),
	    0);
	cr_assert_eq(e.kind, ENVELOPE_ERROR);
	free(copy);
}

Test(envelope, undoes_escapes_of_names_it_compares)
{
	char *copy;

	cr_assert_eq(
	    scan(SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"m\\u0065thod\":\"to\\u006fls\\/call\","
		      "\"params\":{\"n\\u0061me\":\"\\ud83d\\ude00\\n\"}}"),
		&copy),
	    0, "%s", fault.reason);
	cr_assert(span_equal(e.method, SPAN("tools/call")));
	cr_assert(span_equal(e.name, SPAN("\xf0\x9f\x98\x80\n")));
	free(copy);
}

#define MESSAGE(rest) "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"" rest "}"

static const struct {
	struct span text;
	int code;
} rows[] = {
#define ROW(text, code) {{text, sizeof(text) - 1}, code},
    /* JSON-RPC */
    ROW(MESSAGE(""), 0) ROW(MESSAGE(",\"params\":{}"), 0) ROW(
	MESSAGE(",\"extra\":[1,2,{\"a\":null}]"), 0) ROW(MESSAGE(",\"params\":[]"),
	-32600) ROW(MESSAGE(",\"params\":1"), -32600) ROW(MESSAGE(",\"params\":null"),
	-32600) ROW(MESSAGE(",\"result\":{}"), -32600) ROW(MESSAGE(",\"error\":{}"),
	-32600) ROW("{\"id\":1,\"method\":\"m\"}",
	-32600) ROW("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"m\"}",
	-32600) ROW("{\"jsonrpc\":2.0,\"id\":1,\"method\":\"m\"}",
	-32600) ROW("{\"jsonrpc\":\"2\\u002e0\",\"id\":1,\"method\":\"m\"}",
	-32600) ROW("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"m\"}", -32600)
	ROW("{\"jsonrpc\":\"2.0\",\"id\":1e3,\"method\":\"m\"}", -32600) ROW(
	    "{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"m\"}", 0)
	    ROW("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"m\"}", -32600) ROW(
		"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"m\"}", -32600)
		ROW("{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"m\"}", -32600) ROW(
		    "{\"jsonrpc\":\"2.0\",\"id\":\"\",\"method\":\"m\"}", 0)
		    ROW("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":1}", -32600) ROW(
			"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":{\"a\":1}}", -32600)
			ROW("{\"jsonrpc\":\"2.0\",\"id\":1}", -32600) ROW(
			    "{\"jsonrpc\":\"2.0\",\"result\":{}}", -32600)
			    ROW("{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}", -32600) ROW(
				"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{}}", -32600)
				ROW("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":1}", -32600)
				    ROW("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1}}", 0)
					ROW("{}", -32600) ROW("1", -32600) ROW("\"a\"", -32600)
					    ROW("null", -32600) ROW("[]", -32600)
    /* duplicates, where two readers could differ */
    ROW("{\"jsonrpc\":\"2.0\",\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}", -32600)
	ROW(MESSAGE(",\"id\":2"), -32600) ROW(MESSAGE(",\"method\":\"x\""), -32600) ROW(
	    MESSAGE(",\"\\u006dethod\":\"x\""), -32600) ROW(MESSAGE(",\"params\":{},\"params\":{}"),
	    -32600) ROW(MESSAGE(",\"params\":{\"name\":\"a\",\"name\":\"b\"}"), -32600)
	    ROW(MESSAGE(",\"params\":{\"name\":\"a\",\"n\\u0061me\":\"b\"}"), -32600) ROW(
		MESSAGE(",\"params\":{\"uri\":\"a\",\"uri\":\"b\"}"), -32600)
		ROW(MESSAGE(",\"params\":{\"_meta\":{},\"_meta\":{}}"), -32600) ROW(
		    MESSAGE(",\"params\":{\"_meta\":{\"progressToken\":1,\"progressToken\":2}}"),
		    -32600) ROW(MESSAGE(",\"params\":{\"arguments\":{\"name\":1,\"name\":2}}"), 0)
		    ROW(MESSAGE(",\"x\":1,\"x\":2"), 0) ROW(MESSAGE(",\"params\":{\"_meta\":5}"),
			-32600) ROW(MESSAGE(",\"params\":{\"_meta\":null}"), -32600)
			ROW(MESSAGE(",\"params\":{\"_meta\":[]}"), -32600)
			    ROW(MESSAGE(",\"result\":1"), -32600)
				ROW(MESSAGE(",\"params\":{\"name\":5,\"uri\":null}"), 0)
    /* names that can't be compared */
    ROW("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\ud800\"}", -32600)
	ROW(MESSAGE(",\"params\":{\"name\":\"\\udc00x\"}"), -32600)
	    ROW(MESSAGE(",\"params\":{\"x\":\"\\ud800\"}"), 0)
    /* depth */
    ROW(MESSAGE(",\"a\":[[[[[[[1]]]]]]]"), 0) ROW(MESSAGE(",\"a\":[[[[[[[[1]]]]]]]]"), -32600) ROW(
	MESSAGE(",\"params\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":[]}}}}}}}"), -32600)
    /* JSON */
    ROW("", -32700) ROW(" ", -32700) ROW("{", -32700) ROW("}", -32700) ROW("[", -32600)
	ROW("{]", -32700) ROW("{\"a\"}", -32700) ROW("{\"a\":}", -32700) ROW("{\"a\" 1}", -32700)
	    ROW("{a:1}", -32700) ROW("{'a':1}", -32700) ROW("{1:1}", -32700) ROW("{,}", -32700) ROW(
		MESSAGE(","), -32700) ROW(MESSAGE(",\"a\":1,"), -32700) ROW(MESSAGE(",\"a\":[1,]"),
		-32700) ROW(MESSAGE(",\"a\":[,1]"), -32700) ROW(MESSAGE(",\"a\":[1 2]"), -32700)
		ROW(MESSAGE(",\"a\":{\"b\":1,}"), -32700) ROW(MESSAGE(",\"a\":[1}"), -32700)
		    ROW(MESSAGE("") "x", -32700) ROW(MESSAGE("") MESSAGE(""), -32700)
			ROW(MESSAGE("") "\0", -32700) ROW("\xef\xbb\xbf" MESSAGE(""), -32700)
			    ROW(MESSAGE(" /* c */ "), -32700) ROW(MESSAGE("") " \t\r\n", 0)
				ROW(MESSAGE("") "\f", -32700) ROW("\xc2\xa0" MESSAGE(""), -32700)
    /* numbers */
    ROW(MESSAGE(",\"a\":[0,-0,1,-1,10,0.0,1.5,1e1,1E+1,1e-1,-0.5e+10]"), 0) ROW(
	MESSAGE(",\"a\":99999999999999999999999999999999999999999"), 0) ROW(MESSAGE(",\"a\":1e400"),
	0) ROW(MESSAGE(",\"a\":01"), -32700) ROW(MESSAGE(",\"a\":-01"), -32700)
	ROW(MESSAGE(",\"a\":+1"), -32700) ROW(MESSAGE(",\"a\":-"), -32700)
	    ROW(MESSAGE(",\"a\":.5"), -32700) ROW(MESSAGE(",\"a\":1."), -32700)
		ROW(MESSAGE(",\"a\":1.e1"), -32700) ROW(MESSAGE(",\"a\":1e"), -32700)
		    ROW(MESSAGE(",\"a\":1e+"), -32700) ROW(MESSAGE(",\"a\":0x1"), -32700) ROW(
			MESSAGE(",\"a\":1_000"), -32700) ROW(MESSAGE(",\"a\":Infinity"), -32700)
			ROW(MESSAGE(",\"a\":-Infinity"), -32700) ROW(MESSAGE(",\"a\":NaN"), -32700)
    /* literals */
    ROW(MESSAGE(",\"a\":[true,false,null]"), 0) ROW(MESSAGE(",\"a\":True"), -32700)
	ROW(MESSAGE(",\"a\":tru"), -32700) ROW(MESSAGE(",\"a\":nulll"), -32700)
	    ROW(MESSAGE(",\"a\":undefined"), -32700)
    /* strings */
    ROW(MESSAGE(",\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\uFFFF\""), 0)
	ROW(MESSAGE(",\"a\":\"\x7f\""), 0) ROW(MESSAGE(",\"a\":\"\\x41\""), -32700)
	    ROW(MESSAGE(",\"a\":\"\\u12\""), -32700) ROW(MESSAGE(",\"a\":\"\\u12G4\""), -32700)
		ROW(MESSAGE(",\"a\":\"\\\""), -32700) ROW(MESSAGE(",\"a\":\"\\'\""), -32700)
		    ROW(MESSAGE(",\"a\":\"\n\""), -32700) ROW(MESSAGE(",\"a\":\"\t\""), -32700) ROW(
			MESSAGE(",\"a\":\"\0\""), -32700) ROW(MESSAGE(",\"a\":\"\x1f\""), -32700)
			ROW(MESSAGE(",\"a\":\"\\\0\""), -32700)
    /* UTF-8: RFC 3629 */
    ROW(MESSAGE(",\"a\":"
		"\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80"
		"\xf4\x8f\xbf\xbf\""),
	0) ROW(MESSAGE(",\"a\":\"\x80\""), -32700) ROW(MESSAGE(",\"a\":\"\xbf\""),
	-32700) ROW(MESSAGE(",\"a\":\"\xc0\x80\""), -32700) ROW(MESSAGE(",\"a\":\"\xc1\xbf\""),
	-32700) ROW(MESSAGE(",\"a\":\"\xc2\""), -32700) ROW(MESSAGE(",\"a\":\"\xc2x\""), -32700)
	ROW(MESSAGE(",\"a\":\"\xe0\x80\x80\""), -32700) ROW(
	    MESSAGE(",\"a\":\"\xe0\x9f\xbf\""), -32700) ROW(MESSAGE(",\"a\":\"\xe1\x80\""), -32700)
	    ROW(MESSAGE(",\"a\":\"\xed\xa0\x80\""), -32700) ROW(MESSAGE(",\"a\":\"\xed\xbf\xbf\""),
		-32700) ROW(MESSAGE(",\"a\":\"\xf0\x80\x80\x80\""), -32700)
		ROW(MESSAGE(",\"a\":\"\xf0\x8f\xbf\xbf\""), -32700) ROW(
		    MESSAGE(",\"a\":\"\xf0\x90\x80\""), -32700)
		    ROW(MESSAGE(",\"a\":\"\xf4\x90\x80\x80\""), -32700) ROW(
			MESSAGE(",\"a\":\"\xf5\x80\x80\x80\""), -32700)
			ROW(MESSAGE(",\"a\":\"\xff\""), -32700) ROW(MESSAGE(",\"\xff\":1"), -32700)
			    ROW("{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"m\"}", -32700)
#undef ROW
};

Test(envelope, every_row_has_its_verdict)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int code = verdict(rows[i].text);
		cr_expect_eq(code, rows[i].code, "row %zu: %.*s: %d %s", i, (int)rows[i].text.n,
		    rows[i].text.p, code, code ? fault.reason : "");
	}
}

Test(envelope, no_part_of_a_message_is_a_message)
{
	for (size_t n = 0; n < sizeof(call) - 1; n++)
		cr_expect_eq(verdict((struct span){call, n}), -32700, "%zu bytes", n);
}

Test(envelope, no_flipped_bit_reads_past_the_end)
{
	char copy[sizeof(call)];

	for (size_t i = 0; i < sizeof(call) - 1; i++) {
		for (int bit = 0; bit < 8; bit++) {
			memcpy(copy, call, sizeof(call));
			copy[i] ^= (char)(1 << bit);
			(void)verdict((struct span){copy, sizeof(call) - 1});
		}
	}
}

Test(envelope, the_id_is_known_even_when_the_rest_is_wrong)
{
	char *copy;

	cr_assert_eq(
	    scan(SPAN("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"m\",\"params\":[]}"), &copy),
	    -EINVAL);
	cr_assert(span_equal(e.id, SPAN("7")));
	free(copy);
	cr_assert_eq(
	    scan(SPAN("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"m\"}"), &copy), -EINVAL);
	cr_assert_null(e.id.p, "an id that is none is not echoed");
	free(copy);
}

static int count_requests(void *context, const struct envelope *message)
{
	*(int *)context += message->kind == ENVELOPE_REQUEST;
	return message->method.p && span_equal(message->method, SPAN("stop")) ? -EPERM : 0;
}

/* The same in one go and in steps of every length. */
static void expect_the_same_in_steps(struct span text)
{
	int status = envelope_scan(text, DEPTH, &e, &fault);

	for (size_t bytes = 1; bytes <= text.n + 1; bytes++) {
		struct envelope_steps *steps = envelope_steps_begin(text, DEPTH);
		struct envelope found;
		struct envelope_fault other = {0};
		size_t count = 1;
		int error;
		while ((error = envelope_step(steps, bytes, &found, &other)) == -EAGAIN)
			count++;
		cr_assert_eq(error, status, "%.*s by %zu", (int)text.n, text.p, bytes);
		cr_assert_leq(count, text.n / bytes + 2);
		if (error == 0) {
			cr_expect_eq(found.kind, e.kind);
			cr_expect(span_equal(found.id, e.id));
			cr_expect(span_equal(found.method, e.method));
			cr_expect(span_equal(found.name, e.name), "%zu", bytes);
			cr_expect(span_equal(found.params, e.params));
			cr_expect(span_equal(found.text, e.text));
		} else {
			cr_expect_eq(other.code, fault.code);
		}
		envelope_steps_free(steps);
	}
}

Test(envelope, in_steps_it_is_the_same)
{
	expect_the_same_in_steps(SPAN(call));
	expect_the_same_in_steps(SPAN("{\"jsonrpc\":\"2.0\",\"id\":\"a\\u00e9\",\"method\":\"x\","
				      "\"par\\u0061ms\":{\"n\\u0061me\":\"\\ud83d\\ude00 ж\","
				      "\"a\":[1,[],{},[true,{\"b\":\"c\"}]]}}"));
	expect_the_same_in_steps(SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"id\":2}"));
	expect_the_same_in_steps(SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"x"));
	expect_the_same_in_steps(SPAN(" \"text\" "));
	expect_the_same_in_steps(SPAN(" [] "));
	expect_the_same_in_steps(SPAN("{} x"));
	expect_the_same_in_steps(SPAN(""));
}

static void expect_the_same_batch_in_steps(struct span text, int status, int requests)
{
	for (size_t bytes = 1; bytes <= text.n + 1; bytes++) {
		struct envelope_steps *steps = envelope_steps_begin(text, DEPTH);
		struct envelope_fault other = {0};
		int error, count = 0;
		while ((error = envelope_batch_step(
			    steps, bytes, count_requests, &count, &other)) == -EAGAIN) {
		}
		cr_expect_eq(error, status, "%.*s by %zu", (int)text.n, text.p, bytes);
		cr_expect_eq(count, requests, "%.*s by %zu", (int)text.n, text.p, bytes);
		if (error == -EINVAL)
			cr_expect_eq(other.offset, fault.offset, "%.*s", (int)text.n, text.p);
		envelope_steps_free(steps);
	}
}

Test(envelope, batches_are_scanned_one_by_one)
{
	static const struct {
		const char *text;
		int status, requests;
	} batches[] = {
	    {"[" MESSAGE("") "]", 0, 1},
	    {" [ " MESSAGE("") " , {\"jsonrpc\":\"2.0\",\"method\":\"n\"} , " MESSAGE("") " ] ", 0,
		2},
	    {"[]", -EINVAL, 0},
	    {"[" MESSAGE("") ",]", -EINVAL, 1},
	    {"[" MESSAGE("") "", -EINVAL, 1},
	    {"[" MESSAGE("") "]x", -EINVAL, 1},
	    {"[1]", -EINVAL, 0},
	    {"[[" MESSAGE("") "]]", -EINVAL, 0},
	    {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stop\"}," MESSAGE("") "]", -EPERM, 1},
	};

	cr_assert_eq(envelope_scan(SPAN("[1]"), DEPTH, &e, &fault), -E2BIG);
	cr_assert_eq(
	    envelope_batch(SPAN(" [ ] "), DEPTH, count_requests, &(int){0}, &fault), -EINVAL);
	cr_assert_eq(fault.code, -32600, "JSON, but no batch");
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
		int requests = 0;
		int status = envelope_batch(
		    span_of(batches[i].text), DEPTH, count_requests, &requests, &fault);
		cr_expect_eq(status, batches[i].status, "%s", batches[i].text);
		cr_expect_eq(requests, batches[i].requests, "%s", batches[i].text);
		expect_the_same_batch_in_steps(span_of(batches[i].text), status, requests);
	}
}

/* To take a message costs something, however short it is. */
Test(envelope, a_step_takes_few_messages_of_a_batch)
{
	enum { COUNT = 100, STEP = 4 * ENVELOPE_MESSAGE_COST };
	char text[COUNT * 64] = "[";
	int requests = 0, before = 0, error;

	for (int i = 0; i < COUNT; i++)
		strcat(text, i > 0 ? "," MESSAGE("") : MESSAGE(""));
	struct envelope_steps *steps = envelope_steps_begin(span_of(strcat(text, "]")), DEPTH);
	while ((error = envelope_batch_step(steps, STEP, count_requests, &requests, &fault)) ==
	       -EAGAIN) {
		cr_assert_leq(requests - before, 4);
		before = requests;
	}
	cr_assert_eq(error, 0);
	cr_assert_eq(requests, COUNT);
	envelope_steps_free(steps);
}
