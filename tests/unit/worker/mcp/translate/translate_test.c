/* translate: tables of what goes in and what comes out. */
#include "worker/mcp/translate/translate.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define P "io.modelcontextprotocol/"

static struct envelope scanned;

static const struct envelope *scan(const char *text)
{
	struct envelope_fault fault;

	cr_assert_eq(envelope_scan(span_of(text), 64, &scanned, &fault), 0, "%s", text);
	return &scanned;
}

static void expect(struct compose *c, const char *text)
{
	cr_expect_eq(c->error, 0);
	cr_expect(span_equal(buffer_span(c->out), span_of(text)), "got  %.*s\nwant %s",
	    (int)buffer_length(c->out), buffer_span(c->out).p, text);
	buffer_release(c->out);
	*c = (struct compose){.out = c->out, .bound = c->bound};
}

static struct buffer out;
static struct compose c = {.out = &out, .bound = 65536};

static struct translation translation(const char *method)
{
	return (struct translation){
	    .method = mcp_method_find(span_of(method)), .id = SPAN("\"me\""), .token = SPAN("9")};
}

Test(translate, a_modern_request_for_a_legacy_server)
{
	to_legacy_request(&c,
	    scan("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/"
		 "call\",\"params\":{\"name\":\"x\","
		 "\"arguments\":{\"n\":1e400},\"inputResponses\":{},\"requestState\":\"s\",\"_"
		 "meta\":{"
		 "\"" P "protocolVersion\":\"2026-07-28\",\"" P "clientCapabilities\":{},"
		 "\"progressToken\":\"t\",\"traceparent\":\"00\"}}}"),
	    SPAN("77"));
	expect(&c,
	    "{\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"tools/call\",\"params\":{\"_meta\":{"
	    "\"progressToken\":77,\"traceparent\":\"00\"},\"name\":\"x\",\"arguments\":{"
	    "\"n\":1e400}}}");
}

Test(translate, a_legacy_request_for_a_modern_server)
{
	const struct client_identity who = {
	    SPAN("{\"roots\":{}}"), SPAN("{\"name\":\"c\"}"), SPAN("\"info\"")};
	const struct retry_inputs inputs = {SPAN("{\"k\":{}}"), SPAN("\"state\"")};

	to_modern_request(&c,
	    scan("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
		 "call\",\"params\":{\"name\":\"x\","
		 "\"task\":{},\"_meta\":{\"progressToken\":1,\"" P "related-task\":{},\"k\":2}}}"),
	    SPAN("5"), &who, &inputs);
	expect(&c,
	    "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"tools/call\",\"params\":{\"_meta\":{\"" P
	    "protocolVersion\":\"2026-07-28\",\"" P "clientCapabilities\":{\"roots\":{}},\"" P
	    "clientInfo\":{\"name\":\"c\"},\"" P "logLevel\":\"info\",\"progressToken\":5,\"k\":2},"
	    "\"name\":\"x\",\"inputResponses\":{\"k\":{}},\"requestState\":\"state\"}}");
	const struct client_identity nobody = {.capabilities = SPAN("{}")};
	to_modern_request(&c, scan("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"),
	    SPAN("6"), &nobody, NULL);
	expect(&c,
	    "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"tools/list\",\"params\":{\"_meta\":{\"" P
	    "protocolVersion\":\"2026-07-28\",\"" P "clientCapabilities\":{}}}}");
}

/* Each: the method, the answer of one era, the answer of the other. */
struct row {
	const char *method, *in, *out;
};

Test(translate, legacy_answers_for_modern_clients)
{
	static const struct row rows[] = {
	    {"tools/call", "\"result\":{\"content\":[],\"resultType\":\"odd\",\"_meta\":{\"a\":1}}",
		"\"result\":{\"resultType\":\"complete\",\"content\":[],\"_meta\":{\"a\":1}}"},
	    {"prompts/list", "\"result\":{\"prompts\":[],\"ttlMs\":7}",
		"\"result\":{\"resultType\":\"complete\",\"prompts\":[],\"ttlMs\":0,"
		"\"cacheScope\":\"private\",\"_meta\":{}}"},
	    {"tools/list",
		"\"result\":{\"tools\":[{\"name\":\"a\",\"execution\":{}},{\"execution\":{"
		"\"taskSupport\":\"required\"}},{\"name\":\"b\"}]}",
		"\"result\":{\"resultType\":\"complete\",\"tools\":[{\"name\":\"a\"},{\"name\":"
		"\"b\"}],"
		"\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{}}"},
	    {"resources/read",
		"\"error\":{\"code\":-32002,\"message\":\"no\",\"data\":{\"uri\":1}}",
		"\"error\":{\"code\":-32602,\"message\":\"no\",\"data\":{\"uri\":1}}"},
	    {"tools/call", "\"error\":{\"code\":-32042,\"message\":\"m\",\"data\":3}",
		"\"error\":{\"code\":-32603,\"message\":\"m\",\"data\":{\"code\":-32042,\"data\":3}"
		"}"},
	    {"tools/call", "\"error\":{\"code\":-1,\"message\":\"m\"}",
		"\"error\":{\"code\":-1,\"message\":\"m\"}"},
	};
	char text[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct translation t = translation(rows[i].method);
		snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":5,%s}", rows[i].in);
		to_modern_answer(&c, scan(text), &t);
		snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":\"me\",%s}", rows[i].out);
		expect(&c, text);
	}
}

Test(translate, modern_answers_for_legacy_clients)
{
	static const struct row rows[] = {
	    {"tools/call",
		"\"result\":{\"resultType\":\"complete\",\"content\":[],\"structuredContent\":{"
		"\"a\":1},"
		"\"_meta\":{\"" P "serverInfo\":{},\"k\":1}}",
		"\"result\":{\"content\":[],\"structuredContent\":{\"a\":1},\"_meta\":{\"k\":1}}"},
	    {"tools/call",
		"\"result\":{\"resultType\":\"complete\",\"content\":[],\"structuredContent\":[1,"
		"\"a\"]}",
		"\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"[1,\\\"a\\\"]\"}]}"},
	    {"tools/call", "\"result\":{\"content\":[{\"type\":\"text\"}],\"structuredContent\":7}",
		"\"result\":{\"content\":[{\"type\":\"text\"}]}"},
	    {"tools/list",
		"\"result\":{\"tools\":[{\"name\":\"a\",\"outputSchema\":{\"type\":\"array\"}},{"
		"\"name\":\"b\",\"outputSchema\":{\"type\":\"object\"}}],\"ttlMs\":5,"
		"\"cacheScope\":\"public\",\"nextCursor\":\"\"}",
		"\"result\":{\"nextCursor\":\"\",\"tools\":[{\"name\":\"a\"},{\"name\":\"b\","
		"\"outputSchema\":{\"type\":\"object\"}}]}"},
	    {"tools/call", "\"error\":{\"code\":-32021,\"message\":\"m\",\"data\":{\"a\":1}}",
		"\"error\":{\"code\":-32603,\"message\":\"m\",\"data\":{\"code\":-32021,"
		"\"message\":\"m\",\"data\":{\"a\":1}}}"},
	    {"tools/call", "\"error\":{\"code\":-32602,\"message\":\"m\"}",
		"\"error\":{\"code\":-32602,\"message\":\"m\"}"},
	};
	char text[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct translation t = translation(rows[i].method);
		snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":5,%s}", rows[i].in);
		to_legacy_answer(&c, scan(text), &t);
		snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":\"me\",%s}", rows[i].out);
		expect(&c, text);
	}
}

Test(translate, notifications_before_an_answer)
{
	struct translation t = translation("tools/call");
	const char *progress =
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
	    "\"progressToken\":5,\"progress\":1,\"message\":\"m\"}}";
	const char *message =
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{"
	    "\"level\":\"info\",\"data\":1}}";

	t.revision = MCP_2025_11_25;
	cr_expect(translate_notification(&c, scan(progress), &t));
	expect(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
		   "\"progressToken\":9,\"progress\":1,\"message\":\"m\"}}");
	t.revision = MCP_2024_11_05;
	cr_expect(translate_notification(&c, scan(progress), &t));
	expect(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
		   "\"progressToken\":9,\"progress\":1}}");
	cr_expect_not(translate_notification(&c, scan(message), &t));
	t.keep_log = true;
	cr_expect(translate_notification(&c, scan(message), &t));
	expect(&c, message);
	t.token = (struct span){0};
	cr_expect_not(translate_notification(&c, scan(progress), &t));
	cr_expect_not(translate_notification(
	    &c, scan("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}"), &t));
}

Test(translate, capabilities_are_bits_in_between)
{
	static const struct {
		const char *modern;
		unsigned bits;
		const char *legacy;
	} rows[] = {
	    {"{}", 0, "{}"},
	    {"{\"roots\":{\"listChanged\":true},\"extensions\":{\"x/y\":{}}}", CAPABILITY_ROOTS,
		"{\"roots\":{}}"},
	    {"{\"sampling\":{\"tools\":{},\"context\":{}}}",
		CAPABILITY_SAMPLING | CAPABILITY_SAMPLING_TOOLS | CAPABILITY_SAMPLING_CONTEXT,
		"{\"sampling\":{\"tools\":{},\"context\":{}}}"},
	    {"{\"elicitation\":{}}", CAPABILITY_ELICITATION_FORM,
		"{\"elicitation\":{\"form\":{}}}"},
	    {"{\"elicitation\":{\"url\":{}}}", CAPABILITY_ELICITATION_URL,
		"{\"elicitation\":{\"url\":{}}}"},
	    {"{\"elicitation\":{\"form\":{},\"url\":{}}}",
		CAPABILITY_ELICITATION_FORM | CAPABILITY_ELICITATION_URL,
		"{\"elicitation\":{\"form\":{},\"url\":{}}}"},
	    {"{\"roots\":null,\"sampling\":1,\"elicitation\":[]}", 0, "{}"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(
		    capabilities_bits(span_of(rows[i].modern)), rows[i].bits, "%s", rows[i].modern);
		capabilities_to_legacy(&c, rows[i].bits);
		expect(&c, rows[i].legacy);
	}
	capabilities_to_modern(&c,
	    SPAN("{\"roots\":{\"listChanged\":true},\"tasks\":{},\"sampling\":{},\"elicitation\":{"
		 "\"form\":{},\"url\":{}},\"experimental\":{\"a\":{}}}"),
	    MCP_2025_11_25);
	expect(&c, "{\"roots\":{},\"elicitation\":{\"form\":{},\"url\":{}},\"sampling\":{},"
		   "\"experimental\":{\"a\":{}}}");
	capabilities_to_modern(&c, SPAN("{\"elicitation\":{\"url\":{}}}"), MCP_2025_06_18);
	expect(&c, "{\"elicitation\":{}}");
}

Test(translate, discover_and_initialize)
{
	static const char initialized[] =
	    "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{\"listChanged\":true}"
	    ","
	    "\"resources\":{\"subscribe\":true},\"tasks\":{},\"logging\":{}},\"serverInfo\":{"
	    "\"name\":\"s\",\"version\":\"1\"},\"instructions\":\"i\"}";

	to_modern_discover(&c, SPAN(initialized), SPAN("1"));
	expect(&c,
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"resultType\":\"complete\","
	    "\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{"
	    "\"listChanged\":true},\"resources\":{\"subscribe\":true},\"logging\":{}},"
	    "\"instructions\":\"i\",\"ttlMs\":60000,\"cacheScope\":\"private\",\"_meta\":{\"" P
	    "serverInfo\":{\"name\":\"s\",\"version\":\"1\"}}}}");
	to_legacy_initialize(&c,
	    SPAN("{\"supportedVersions\":[],\"capabilities\":{\"tools\":{},\"extensions\":{}},"
		 "\"_meta\":{\"" P "serverInfo\":{\"name\":\"s\"}},\"instructions\":\"i\"}"),
	    SPAN("2"), MCP_2025_06_18, "up");
	expect(&c, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"protocolVersion\":\"2025-06-18\","
		   "\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"s\"},"
		   "\"instructions\":\"i\"}}");
	to_legacy_initialize(&c, SPAN("{}"), SPAN("3"), MCP_2024_11_05, "up");
	expect(&c,
	    "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"protocolVersion\":\"2024-11-05\","
	    "\"capabilities\":{},\"serverInfo\":{\"name\":\"up\",\"version\":\"unknown\"}}}");
}
