/* seal: what was closed opens, and nothing else does. */
#include "worker/mcp/seal.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "common/envelope.h"

static const uint8_t key[SESSION_KEY_SIZE] = {1, 2, 3};
static const struct ticket ticket = {
    .box = {{9, 8, 7}}, .round = 3, .capabilities = 5, .expires = 1234567890123, .digest = {4}};

Test(seal, opens_what_it_closed)
{
	char text[SEAL_TEXT_MAX], again[SEAL_TEXT_MAX];
	struct ticket out = {0};

	cr_assert(seal_close(&ticket, key, SPAN("up"), text));
	cr_assert(seal_open(span_of(text), key, SPAN("up"), &out));
	cr_expect_eq(memcmp(&out.box, &ticket.box, sizeof(out.box)), 0);
	cr_expect_eq(out.round, 3);
	cr_expect_eq(out.capabilities, 5);
	cr_expect_eq(out.expires, ticket.expires);
	cr_expect_eq(memcmp(out.digest, ticket.digest, SEAL_DIGEST), 0);
	cr_assert(seal_close(&ticket, key, SPAN("up"), again));
	cr_expect_str_neq(text, again);
}

Test(seal, nothing_that_was_changed_opens)
{
	static const uint8_t other[SESSION_KEY_SIZE] = {1, 2, 4};
	char text[SEAL_TEXT_MAX];
	struct ticket out;

	cr_assert(seal_close(&ticket, key, SPAN("up"), text));
	cr_expect_not(seal_open(span_of(text), other, SPAN("up"), &out));
	cr_expect_not(seal_open(span_of(text), key, SPAN("down"), &out));
	cr_expect_not(seal_open((struct span){text, strlen(text) - 1}, key, SPAN("up"), &out));
	cr_expect_not(seal_open(SPAN(""), key, SPAN("up"), &out));
	for (size_t i = 0; text[i]; i++) {
		char was = text[i];
		text[i] = was == 'A' ? 'B' : 'A';
		cr_expect_not(seal_open(span_of(text), key, SPAN("up"), &out), "character %zu", i);
		text[i] = was;
	}
}

static void digest(const char *params, const char *method, uint8_t out[SEAL_DIGEST])
{
	static struct envelope e;
	struct envelope_fault fault;
	char text[512];

	snprintf(text, sizeof(text),
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}", method, params);
	cr_assert_eq(envelope_scan(span_of(text), 64, &e, &fault), 0);
	cr_assert(seal_digest(&e, out));
}

Test(seal, a_digest_is_of_what_makes_a_request_the_same)
{
	static const struct {
		const char *method, *params;
		bool same;
	} rows[] = {
	    {"tools/call", "{\"arguments\":{\"x\":1},\"name\":\"a\"}", true},
	    {"tools/call",
		"{\"name\":\"a\",\"arguments\":{\"x\":1},\"_meta\":{\"a\":1},\"inputResponses\":{},"
		"\"requestState\":\"s\"}",
		true},
	    {"tools/call", "{\"name\":\"b\",\"arguments\":{\"x\":1}}", false},
	    {"tools/call", "{\"name\":\"a\",\"arguments\":{\"x\":2}}", false},
	    {"tools/call", "{\"name\":\"a\"}", false},
	    {"tools/call", "{\"name\":\"a\",\"arguments\":{\"x\":1},\"more\":1}", false},
	    {"prompts/get", "{\"name\":\"a\",\"arguments\":{\"x\":1}}", false},
	};
	uint8_t first[SEAL_DIGEST], other[SEAL_DIGEST];

	digest("{\"name\":\"a\",\"arguments\":{\"x\":1}}", "tools/call", first);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		digest(rows[i].params, rows[i].method, other);
		cr_expect_eq(
		    memcmp(first, other, sizeof(first)) == 0, rows[i].same, "%s", rows[i].params);
	}
}
