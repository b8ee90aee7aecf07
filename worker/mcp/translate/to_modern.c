/* to_modern: see translate.h. */
#include <stdio.h>
#include <stdlib.h>

#include "common/raw.h"
#include "worker/mcp/translate/translate.h"

/* Of results: what the eras say differently. */
static const char *const result_members[] = {
    "resultType", "ttlMs", "cacheScope", "_meta", "tools", NULL};
static const char *const legacy_params[] = {"_meta", "task", NULL};
static const char *const reserved_meta[] = {"io.modelcontextprotocol/", "progressToken", NULL};

static void put_meta(
    struct compose *c, const struct envelope *e, struct span id, const struct client_identity *who)
{
	compose_key(c, "_meta");
	compose_open(c, '{');
	compose_text(c, "io.modelcontextprotocol/protocolVersion", SPAN(MCP_STATELESS));
	compose_member(c, "io.modelcontextprotocol/clientCapabilities", who->capabilities);
	if (who->info.n > 0)
		compose_member(c, "io.modelcontextprotocol/clientInfo", who->info);
	if (who->level.n > 0)
		compose_member(c, "io.modelcontextprotocol/logLevel", who->level);
	if (e->progress_token.p)
		compose_member(c, "progressToken", id);
	if (e->meta.p)
		compose_members(c, e->meta, reserved_meta);
	compose_close(c, '}');
}

void to_modern_request(struct compose *c, const struct envelope *e, struct span id,
    const struct client_identity *who, const struct retry_inputs *inputs)
{
	c->index = &e->index;
	translate_begin(c, id);
	compose_text(c, "method", e->method);
	compose_key(c, "params");
	compose_open(c, '{');
	put_meta(c, e, id, who);
	if (e->params.p)
		compose_members(c, e->params, legacy_params);
	if (inputs && inputs->responses.n > 0)
		compose_member(c, "inputResponses", inputs->responses);
	if (inputs && inputs->state.n > 0)
		compose_member(c, "requestState", inputs->state);
	compose_close(c, '}');
	compose_close(c, '}');
}

void to_modern_listen(struct compose *c, struct span id, const struct client_identity *who,
    struct span discover, struct span uris)
{
	static const struct {
		const char *list, *wanted;
	} rows[] = {
	    {"tools", "toolsListChanged"},
	    {"prompts", "promptsListChanged"},
	    {"resources", "resourcesListChanged"},
	};
	static const struct envelope nothing;
	struct span capabilities = SPAN("{}"), one, announced, rest = uris;

	raw_object(discover, "capabilities", &capabilities);
	translate_begin(c, id);
	compose_text(c, "method", SPAN("subscriptions/listen"));
	compose_key(c, "params");
	compose_open(c, '{');
	put_meta(c, &nothing, id, who);
	compose_key(c, "notifications");
	compose_open(c, '{');
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (raw_object(capabilities, rows[i].list, &one) &&
		    raw_member(one, "listChanged", &announced) &&
		    span_equal(announced, SPAN("true")))
			compose_member(c, rows[i].wanted, SPAN("true"));
	}
	if (raw_next(&rest, &one))
		compose_member(c, "resourceSubscriptions", uris);
	compose_close(c, '}');
	compose_close(c, '}');
	compose_close(c, '}');
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* Tools that only run as tasks of the experimental kind can't be called in the stateless era. */
static bool needs_task(struct span tool)
{
	struct span execution, support;

	return raw_member(tool, "execution", &execution) &&
	       raw_member(execution, "taskSupport", &support) &&
	       span_equal(support, SPAN("\"required\""));
}

static void put_tools(struct compose *c, struct span tools)
{
	static const char *const execution[] = {"execution", NULL};
	struct span tool;

	compose_key(c, "tools");
	compose_open(c, '[');
	while (raw_next_in(c->index, &tools, &tool)) {
		if (needs_task(tool))
			continue;
		compose_element(c, (struct span){0});
		compose_open(c, '{');
		compose_members(c, tool, execution);
		compose_close(c, '}');
	}
	compose_close(c, ']');
}

static void put_result_meta(struct compose *c, struct span meta, struct span server_info)
{
	static const char *const ours[] = {"io.modelcontextprotocol/serverInfo", NULL};

	compose_key(c, "_meta");
	compose_open(c, '{');
	if (server_info.n > 0)
		compose_member(c, "io.modelcontextprotocol/serverInfo", server_info);
	compose_members(c, meta, ours);
	compose_close(c, '}');
}

static void put_result(struct compose *c, struct span result, const struct translation *t)
{
	/* Looked for once: a result may be long. */
	static const char *const rewritten[] = {"tools", "_meta", NULL};
	struct span found[2], tools, meta;

	raw_members_in(c->index, result, rewritten, found);
	tools = found[0];
	meta = found[1];
	compose_key(c, "result");
	compose_open(c, '{');
	compose_member(c, "resultType", SPAN("\"complete\""));
	compose_members(c, result, result_members);
	if (tools.p && tools.p[0] == '[')
		put_tools(c, tools);
	if (t->method->cacheable) {
		compose_integer(c, "ttlMs", 0);
		compose_text(c, "cacheScope", SPAN("private"));
	}
	put_result_meta(c, meta, t->server_info);
	compose_close(c, '}');
}

/* -32002 is -32602 now; what is reserved now meant something else before (mcp-wire 3.6). */
static void put_error(struct compose *c, struct span error)
{
	static const char *const rewritten[] = {"code", "message", "data", NULL};
	struct span code = {0}, message = SPAN("\"\""), data = {0};

	raw_member(error, "code", &code);
	raw_member(error, "message", &message);
	raw_member(error, "data", &data);
	long number = code.n > 0 && code.n < 20 ? strtol(code.p, NULL, 10) : -32603;
	bool reserved = number <= -32020 && number >= -32099;
	compose_key(c, "error");
	compose_open(c, '{');
	compose_integer(c, "code", number == -32002 ? -32602 : reserved ? -32603 : number);
	compose_member(c, "message", message);
	if (reserved) {
		compose_key(c, "data");
		compose_open(c, '{');
		compose_member(c, "code", code);
		if (data.n > 0)
			compose_member(c, "data", data);
		compose_close(c, '}');
	} else if (data.n > 0) {
		compose_member(c, "data", data);
	}
	compose_members(c, error, rewritten);
	compose_close(c, '}');
}

void to_modern_answer(struct compose *c, const struct envelope *e, const struct translation *t)
{
	c->index = &e->index;
	translate_begin(c, t->id);
	if (e->kind == ENVELOPE_RESULT)
		put_result(c, e->result, t);
	else
		put_error(c, e->error);
	compose_close(c, '}');
}

/* --- error -32042 --- */

bool is_about_urls(const struct envelope *e)
{
	struct span code;

	return e->kind == ENVELOPE_ERROR && raw_member(e->error, "code", &code) &&
	       span_equal(code, SPAN("-32042"));
}

static void put_urls(struct compose *c, struct span error)
{
	static const char *const legacy[] = {"_meta", "task", "elicitationId", NULL};
	struct span data, list = {0}, one;
	unsigned number = 0;
	char key[16];

	if (raw_object(error, "data", &data))
		raw_member(data, "elicitations", &list);
	while (raw_next(&list, &one)) {
		snprintf(key, sizeof(key), "ask-%u", ++number);
		compose_key(c, key);
		compose_open(c, '{');
		compose_text(c, "method", SPAN("elicitation/create"));
		compose_key(c, "params");
		compose_open(c, '{');
		compose_members(c, one, legacy);
		compose_close(c, '}');
		compose_close(c, '}');
	}
}

unsigned to_modern_missing(struct compose *c, struct span id, unsigned capabilities)
{
	translate_begin(c, id);
	compose_key(c, "error");
	compose_open(c, '{');
	compose_integer(c, "code", -32021);
	compose_text(c, "message", SPAN("The server asks for what this client did not declare"));
	compose_key(c, "data");
	compose_open(c, '{');
	compose_key(c, "requiredCapabilities");
	capabilities_to_legacy(c, capabilities);
	compose_close(c, '}');
	compose_close(c, '}');
	compose_close(c, '}');
	return 400;
}

unsigned to_modern_urls(
    struct compose *c, const struct envelope *e, const struct translation *t, unsigned capabilities)
{
	if (!(capabilities & CAPABILITY_ELICITATION_URL)) {
		translate_error(c, t->id, -32021, SPAN("The server asks the user to open a URL"),
		    SPAN("{\"requiredCapabilities\":{\"elicitation\":{\"url\":{}}}}"));
		return 400;
	}
	translate_begin(c, t->id);
	compose_key(c, "result");
	compose_open(c, '{');
	compose_text(c, "resultType", SPAN("input_required"));
	compose_key(c, "inputRequests");
	compose_open(c, '{');
	put_urls(c, e->error);
	compose_close(c, '}');
	put_result_meta(c, (struct span){0}, t->server_info);
	compose_close(c, '}');
	compose_close(c, '}');
	return 200;
}

void to_modern_listen_end(struct compose *c, struct span id)
{
	translate_begin(c, id);
	compose_key(c, "result");
	compose_open(c, '{');
	compose_text(c, "resultType", SPAN("complete"));
	compose_key(c, "_meta");
	compose_open(c, '{');
	compose_member(c, "io.modelcontextprotocol/subscriptionId", id);
	compose_close(c, '}');
	compose_close(c, '}');
	compose_close(c, '}');
}

/* --- discover -----------------------------------------------------------------------------------
 */

void to_modern_discover(struct compose *c, struct span result, struct span id)
{
	static const char *const of_tasks[] = {"tasks", NULL};
	struct span capabilities = SPAN("{}"), info = {0}, instructions;

	raw_member(result, "capabilities", &capabilities);
	raw_member(result, "serverInfo", &info);
	translate_begin(c, id);
	compose_key(c, "result");
	compose_open(c, '{');
	compose_member(c, "resultType", SPAN("\"complete\""));
	compose_member(c, "supportedVersions", SPAN("[\"" MCP_STATELESS "\"]"));
	compose_key(c, "capabilities");
	compose_open(c, '{');
	compose_members(c, capabilities, of_tasks);
	compose_close(c, '}');
	if (raw_member(result, "instructions", &instructions))
		compose_member(c, "instructions", instructions);
	/* The server may be another one tomorrow, but is seldom asked. */
	compose_integer(c, "ttlMs", 60000);
	compose_text(c, "cacheScope", SPAN("private"));
	put_result_meta(c, (struct span){0}, info);
	compose_close(c, '}');
	compose_close(c, '}');
}
