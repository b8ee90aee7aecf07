/* translate_fuzz: whatever message comes, each translation of it is one message again, of the kind
 * it must be, and holds nothing that its era does not have. */
#include <stdlib.h>
#include <string.h>

#include "common/raw.h"
#include "worker/mcp/translate/translate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct envelope given, made;
static struct buffer out;

/* What was composed, scanned; then thrown away. */
static void check(struct compose *c, enum envelope_kind kind)
{
	struct envelope_fault fault;
	struct span text = buffer_span(&out);

	/* A message is nested a little deeper than what it was made of. */
	if (c->error || envelope_scan(text, 70, &made, &fault) || made.kind != kind)
		abort();
	*c = (struct compose){.out = &out, .bound = c->bound};
}

static void forget(void)
{
	buffer_consume(&out, buffer_length(&out));
}

static void requests(struct compose *c)
{
	static const struct client_identity who = {{"{}", 2}, {"{}", 2}, {"\"info\"", 6}};
	static const struct retry_inputs inputs = {{"{}", 2}, {"\"s\"", 3}};
	struct span value;

	to_modern_request(c, &given, SPAN("1"), &who, &inputs);
	check(c, ENVELOPE_REQUEST);
	if (!span_equal(made.meta_version, SPAN("2026-07-28")) || !span_equal(made.id, SPAN("1")) ||
	    raw_member(made.params, "task", &value))
		abort();
	forget();
	to_legacy_request(c, &given, SPAN("2"));
	check(c, ENVELOPE_REQUEST);
	if (made.meta_version.p || made.client_capabilities.p || !span_equal(made.id, SPAN("2")) ||
	    raw_member(made.params, "requestState", &value))
		abort();
	forget();
	capabilities_to_legacy(c, capabilities_bits(given.params));
	capabilities_to_modern(c, given.params, MCP_2025_11_25);
	*c = (struct compose){.out = &out, .bound = c->bound};
	forget();
}

static void answers(struct compose *c)
{
	static const char *const methods[] = {"tools/list", "tools/call", "resources/read"};
	struct span value;

	for (int i = 0; i < 3; i++) {
		struct translation t = {.method = mcp_method_find(span_of(methods[i])),
		    .id = SPAN("3"),
		    .server_info = SPAN("{}")};
		to_modern_answer(c, &given, &t);
		check(c, given.kind);
		if (made.kind == ENVELOPE_RESULT &&
		    (!raw_member(made.result, "resultType", &value) ||
			!span_equal(value, SPAN("\"complete\""))))
			abort();
		forget();
		to_legacy_answer(c, &given, &t);
		check(c, given.kind);
		if (made.kind == ENVELOPE_RESULT && raw_member(made.result, "resultType", &value))
			abort();
		forget();
	}
	to_modern_discover(c, given.result, SPAN("4"));
	check(c, ENVELOPE_RESULT);
	forget();
	to_legacy_initialize(c, given.result, SPAN("5"), MCP_2025_11_25, "up");
	check(c, ENVELOPE_RESULT);
	if (!made.protocol_version.p)
		abort();
	forget();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct envelope_fault fault;
	struct compose c = {.out = &out, .bound = 1 << 24};
	struct translation t = {.token = SPAN("7"), .keep_log = true};

	if (envelope_scan((struct span){(const char *)data, size}, 64, &given, &fault))
		return 0;
	if (given.kind == ENVELOPE_REQUEST && given.params.p && given.meta.p) {
		requests(&c);
	} else if (given.kind == ENVELOPE_NOTIFICATION) {
		if (translate_notification(&c, &given, &t))
			check(&c, ENVELOPE_NOTIFICATION);
		forget();
	} else if (given.kind == ENVELOPE_RESULT || given.kind == ENVELOPE_ERROR) {
		if (given.id.p)
			answers(&c);
	}
	return 0;
}
