/* virtual: see virtual.h. */
#include "worker/mcp/virtual.h"

#include "common/raw.h"

bool virtual_session(const struct session_record *record)
{
	return record->route[0] && !record->upstream_session[0] && record->state.n > 0;
}

struct client_identity virtual_identity(struct span state)
{
	struct client_identity who = {.capabilities = SPAN("{}")};

	raw_object(state, "capabilities", &who.capabilities);
	raw_object(state, "clientInfo", &who.info);
	raw_member(state, "level", &who.level);
	return who;
}

struct span virtual_uris(struct span state)
{
	struct span uris = SPAN("[]");

	raw_member(state, "uris", &uris);
	return uris;
}

void virtual_begin(struct compose *c, const struct envelope *e, enum mcp_version version)
{
	struct span capabilities = SPAN("{}"), info;

	raw_object(e->params, "capabilities", &capabilities);
	compose_open(c, '{');
	compose_key(c, "capabilities");
	capabilities_to_modern(c, capabilities, version);
	if (raw_object(e->params, "clientInfo", &info))
		compose_member(c, "clientInfo", info);
	compose_close(c, '}');
}

void virtual_set_level(struct compose *c, struct span state, struct span level)
{
	static const char *const old[] = {"level", NULL};

	compose_open(c, '{');
	compose_members(c, state, old);
	compose_member(c, "level", level);
	compose_close(c, '}');
}

void virtual_set_uri(struct compose *c, struct span state, struct span uri, bool subscribed)
{
	static const char *const old[] = {"uris", NULL};
	struct span uris = virtual_uris(state), one;

	compose_open(c, '{');
	compose_members(c, state, old);
	compose_key(c, "uris");
	compose_open(c, '[');
	while (raw_next(&uris, &one)) {
		if (!span_equal(one, uri))
			compose_element(c, one);
	}
	if (subscribed)
		compose_element(c, uri);
	compose_close(c, ']');
	compose_close(c, '}');
}
