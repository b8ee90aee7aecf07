/* fields: what a field's value says (2026-07-28, streamable HTTP). */
#include "worker/mcp/fields.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(fields, a_value_is_itself_or_strict_base64)
{
	static const struct {
		const char *value, *text;
		bool says;
	} rows[] = {
	    {"plain", "plain", true},
	    {"plain", "Plain", false},
	    {"", "", true},
	    {"=?base64?cGxhaW4=?=", "plain", true},
	    {"=?base64?Z3LDtsOfZQ==?=",
		"gr\xc3\xb6\xc3\x9f"
		"e",
		true},
	    {"=?base64?YWJj?=", "abc", true},
	    {"=?base64?"
	     "?=",
		"", true},
	    {"=?base64?"
	     "?=",
		"x", false},
	    /* Without its beginning or end it is a text as any other. */
	    {"=?base64?YWJj", "=?base64?YWJj", true},
	    {"YWJj?=", "YWJj?=", true},
	    {"=?BASE64?YWJj?=", "=?BASE64?YWJj?=", true},
	    {"=?base64?=", "=?base64?=", true},
	    /* Not as RFC 4648 wants it. */
	    {"=?base64?cGxhaW4?=", "plain", false},
	    {"=?base64?cGxhaW5=?=", "plain", false},
	    {"=?base64?cGx haW4=?=", "plain", false},
	    {"=?base64? YWJj?=", "abc", false},
	    {"=?base64?YW-_?=", "ao\xbf", false},
	    {"=?base64?====?=", "", false},
	    {"=?base64?YWJj?=", "=?base64?YWJj?=", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(field_says(span_of(rows[i].value), span_of(rows[i].text)),
		    rows[i].says, "%s", rows[i].value);
}

static struct annotations annotations;

static bool annotate(const char *properties)
{
	static char tool[1024];

	snprintf(tool, sizeof(tool), "{\"name\":\"t\",\"inputSchema\":{\"properties\":{%s}}}",
	    properties);
	return annotations_of(span_of(tool), &annotations);
}

Test(fields, an_annotation_stands_on_a_scalar_in_a_chain_of_properties)
{
	static const struct {
		const char *properties;
		bool valid;
		unsigned count;
	} rows[] = {
	    {"", true, 0},
	    {"\"a\":{\"type\":\"string\"}", true, 0},
	    {"\"a\":{\"type\":\"string\",\"x-mcp-header\":\"A\"}", true, 1},
	    {"\"a\":{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"integer\","
	     "\"x-mcp-header\":\"B\"}}}",
		true, 1},
	    /* Elsewhere it is none. */
	    {"\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"x-mcp-header\":\"A\"}}",
		true, 0},
	    {"\"a\":{\"type\":\"string\",\"x-mcp-header\":\"\"}", false, 0},
	    {"\"a\":{\"type\":\"string\",\"x-mcp-header\":\"A B\"}", false, 0},
	    {"\"a\":{\"type\":\"string\",\"x-mcp-header\":7}", false, 0},
	    {"\"a\":{\"type\":\"object\",\"x-mcp-header\":\"A\"}", false, 0},
	    {"\"a\":{\"x-mcp-header\":\"A\"}", false, 0},
	    {"\"a\":{\"type\":\"string\",\"x-mcp-header\":\"A\"},\"b\":{\"type\":\"string\","
	     "\"x-mcp-header\":\"a\"}",
		false, 1},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(annotate(rows[i].properties), rows[i].valid, "%s", rows[i].properties);
		cr_expect_eq(annotations.count, rows[i].count, "%s", rows[i].properties);
	}
}

Test(fields, params_agree_with_the_arguments)
{
	static const struct {
		const char *lines, *arguments;
		bool good;
	} rows[] = {
	    {"", "{}", true},
	    {"", "{\"s\":null}", true},
	    {"mcp-param-s: x\r\n", "{\"s\":\"x\"}", true},
	    {"Mcp-Param-S: x\r\n", "{\"s\":\"\\u0078\"}", true},
	    {"Mcp-Param-S: =?base64?w7w=?=\r\n", "{\"s\":\"\xc3\xbc\"}", true},
	    {"Mcp-Param-S: x\r\n", "{}", false},
	    {"Mcp-Param-S: x\r\n", "{\"s\":null}", false},
	    {"", "{\"s\":\"x\"}", false},
	    {"Mcp-Param-S: y\r\n", "{\"s\":\"x\"}", false},
	    {"Mcp-Param-S: x\r\nMcp-Param-S: x\r\n", "{\"s\":\"x\"}", false},
	    {"Mcp-Param-N: 42\r\n", "{\"o\":{\"n\":42}}", true},
	    {"Mcp-Param-N: 42.0\r\n", "{\"o\":{\"n\":42}}", true},
	    {"Mcp-Param-N: 43\r\n", "{\"o\":{\"n\":42}}", false},
	    {"Mcp-Param-N: nan\r\n", "{\"o\":{\"n\":42}}", false},
	    {"Mcp-Param-N: 42\r\n", "{\"o\":{}}", false},
	    {"Mcp-Param-B: true\r\n", "{\"b\":true}", true},
	    {"Mcp-Param-B: True\r\n", "{\"b\":true}", false},
	    {"Mcp-Param-Other: 1\r\n", "{}", true},
	};

	cr_assert(annotate("\"s\":{\"type\":\"string\",\"x-mcp-header\":\"S\"},\"b\":{\"type\":"
			   "\"boolean\",\"x-mcp-header\":\"B\"},\"o\":{\"properties\":{\"n\":{"
			   "\"type\":\"integer\",\"x-mcp-header\":\"N\"}}}"));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static struct envelope e;
		struct envelope_fault fault;
		char text[256];
		int n = snprintf(text, sizeof(text),
		    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\","
		    "\"params\":{\"arguments\":%s}}",
		    rows[i].arguments);
		cr_assert_eq(envelope_scan((struct span){text, (size_t)n}, 64, &e, &fault), 0);
		const char *wrong = fields_check(span_of(rows[i].lines), &annotations, &e);
		cr_expect_eq(wrong == NULL, rows[i].good, "%s with %s: %s", rows[i].lines,
		    rows[i].arguments, wrong ? wrong : "");
	}
}

Test(fields, those_of_our_own_requests_agree_with_them)
{
	static const char request[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/"
	    "call\",\"params\":{\"name\":\"gr\xc3\xbcn\","
	    "\"arguments\":{\"s\":\" x\",\"b\":false,\"o\":{\"n\":4.50}}}}";
	static struct envelope e;
	struct envelope_fault fault;
	struct buffer out = {0};

	cr_assert_eq(envelope_scan(SPAN(request), 64, &e, &fault), 0);
	cr_assert(annotate("\"s\":{\"type\":\"string\",\"x-mcp-header\":\"S\"},\"b\":{\"type\":"
			   "\"boolean\",\"x-mcp-header\":\"B\"},\"o\":{\"properties\":{\"n\":{"
			   "\"type\":\"number\",\"x-mcp-header\":\"N\"}}}"));
	cr_assert_eq(fields_put(&out, mcp_method_find(e.method), &e, &annotations), 0);
	cr_expect(span_equal(buffer_span(&out),
		      SPAN("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n"
			   "Mcp-Name: =?base64?Z3LDvG4=?=\r\nMcp-Param-S: =?base64?IHg=?=\r\n"
			   "Mcp-Param-B: false\r\nMcp-Param-N: 4.50\r\n")),
	    "%.*s", (int)buffer_length(&out), buffer_span(&out).p);
	cr_expect_null(fields_check(buffer_span(&out), &annotations, &e));
	buffer_release(&out);
}
