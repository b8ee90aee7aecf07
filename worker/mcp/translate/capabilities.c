/* capabilities: see translate.h. */
#include "common/raw.h"
#include "worker/mcp/translate/translate.h"

/* Rows in the order of their objects; `inner` is NULL for the object itself. */
static const struct {
	const char *outer, *inner;
	unsigned bit;
} rows[] = {
    {"roots", NULL, CAPABILITY_ROOTS},
    {"sampling", NULL, CAPABILITY_SAMPLING},
    {"sampling", "tools", CAPABILITY_SAMPLING_TOOLS},
    {"sampling", "context", CAPABILITY_SAMPLING_CONTEXT},
    {"elicitation", "form", CAPABILITY_ELICITATION_FORM},
    {"elicitation", "url", CAPABILITY_ELICITATION_URL},
};

unsigned capabilities_bits(struct span capabilities)
{
	unsigned bits = 0;
	struct span outer, inner;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (raw_object(capabilities, rows[i].outer, &outer) &&
		    (!rows[i].inner || raw_object(outer, rows[i].inner, &inner)))
			bits |= rows[i].bit;
	}
	/* An empty object means forms (2025-11-25, elicitation). */
	if (raw_object(capabilities, "elicitation", &outer) && !(bits & CAPABILITY_ELICITATION_URL))
		bits |= CAPABILITY_ELICITATION_FORM;
	return bits;
}

void capabilities_to_legacy(struct compose *c, unsigned bits)
{
	static const struct {
		const char *name;
		unsigned any; /* of these bits */
	} objects[] = {
	    {"roots", CAPABILITY_ROOTS},
	    {"sampling", CAPABILITY_SAMPLING},
	    {"elicitation", CAPABILITY_ELICITATION_FORM | CAPABILITY_ELICITATION_URL},
	};

	compose_open(c, '{');
	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
		if (!(bits & objects[i].any))
			continue;
		compose_key(c, objects[i].name);
		compose_open(c, '{');
		for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
			if (rows[j].inner && (bits & rows[j].bit) &&
			    strcmp(rows[j].outer, objects[i].name) == 0)
				compose_member(c, rows[j].inner, SPAN("{}"));
		}
		compose_close(c, '}');
	}
	compose_close(c, '}');
}

void capabilities_to_modern(struct compose *c, struct span capabilities, enum mcp_version revision)
{
	static const char *const unknown[] = {"roots", "tasks", "extensions", "elicitation", NULL};
	static const char *const url[] = {"url", NULL};
	struct span value;

	compose_open(c, '{');
	if (raw_object(capabilities, "roots", &value))
		compose_member(c, "roots", SPAN("{}"));
	if (raw_object(capabilities, "elicitation", &value)) {
		compose_key(c, "elicitation");
		compose_open(c, '{');
		/* Before 2025-11-25 there were forms only. */
		compose_members(c, value, revision < MCP_2025_11_25 ? url : NULL);
		compose_close(c, '}');
	}
	compose_members(c, capabilities, unknown);
	compose_close(c, '}');
}

unsigned capability_needed(struct span method, struct span params)
{
	struct span mode;

	if (span_equal(method, SPAN("roots/list")))
		return CAPABILITY_ROOTS;
	if (span_equal(method, SPAN("sampling/createMessage")))
		return CAPABILITY_SAMPLING;
	if (!span_equal(method, SPAN("elicitation/create")))
		return 0;
	return raw_member(params, "mode", &mode) && span_equal(mode, SPAN("\"url\""))
		   ? CAPABILITY_ELICITATION_URL
		   : CAPABILITY_ELICITATION_FORM;
}
