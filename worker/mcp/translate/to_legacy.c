/* to_legacy: see translate.h. */
#include <stdlib.h>

#include "common/raw.h"
#include "worker/mcp/translate/translate.h"

static const char *const modern_params[] = {
    "_meta", "task", "inputResponses", "requestState", NULL};
static const char *const reserved_meta[] = {"io.modelcontextprotocol/", "progressToken", NULL};

void to_legacy_request(struct compose *c, const struct envelope *e, struct span id)
{
	c->index = &e->index;
	translate_begin(c, id);
	compose_text(c, "method", e->method);
	compose_key(c, "params");
	compose_open(c, '{');
	compose_key(c, "_meta");
	compose_open(c, '{');
	if (e->progress_token.p)
		compose_member(c, "progressToken", id);
	compose_members(c, e->meta, reserved_meta);
	compose_close(c, '}');
	compose_members(c, e->params, modern_params);
	compose_close(c, '}');
	compose_close(c, '}');
}

void to_legacy_refusal(struct compose *c, struct span id, struct span method)
{
	if (!span_equal(method, SPAN("ping"))) {
		translate_error(
		    c, id, -32601, SPAN("the client can't be asked this"), (struct span){0});
		return;
	}
	translate_begin(c, id);
	compose_member(c, "result", SPAN("{}"));
	compose_close(c, '}');
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* A schema of what is not an object is unknown before 2026-07-28. */
static void put_tools(struct compose *c, struct span tools)
{
	static const char *const output[] = {"outputSchema", NULL};
	struct span tool, schema, type;

	compose_key(c, "tools");
	compose_open(c, '[');
	while (raw_next_in(c->index, &tools, &tool)) {
		struct annotations annotations;
		if (!annotations_of(tool, &annotations))
			continue;
		bool keep = raw_object(tool, "outputSchema", &schema) &&
			    raw_member(schema, "type", &type) &&
			    span_equal(type, SPAN("\"object\""));
		compose_element(c, (struct span){0});
		compose_open(c, '{');
		compose_members(c, tool, keep ? NULL : output);
		compose_close(c, '}');
	}
	compose_close(c, ']');
}

/* What is no object can't be structured content there: its text stands in (mcp-wire 3.6). */
static void put_as_text(struct compose *c, struct span value)
{
	compose_key(c, "content");
	compose_open(c, '[');
	compose_open(c, '{');
	compose_text(c, "type", SPAN("text"));
	compose_text(c, "text", value);
	compose_close(c, '}');
	compose_close(c, ']');
}

/* --- content that earlier revisions do not know (mcp-wire 3.5) --- */

static const struct {
	struct span type; /* as JSON */
	enum mcp_version since;
	const char *stands_in; /* the member whose text is given instead */
} content_types[] = {
    {{"\"audio\"", 7}, MCP_2025_03_26, "mimeType"},
    {{"\"resource_link\"", 15}, MCP_2025_06_18, "uri"},
};

static void put_block(struct compose *c, struct span block, enum mcp_version revision)
{
	struct span type, text = SPAN("\"\"");
	size_t count = sizeof(content_types) / sizeof(content_types[0]), i = count;

	if (raw_member(block, "type", &type)) {
		for (i = 0; i < count && !span_equal(type, content_types[i].type); i++) {
		}
	}
	if (i == count || revision >= content_types[i].since) {
		compose_raw(c, block);
		return;
	}
	raw_member(block, content_types[i].stands_in, &text);
	compose_open(c, '{');
	compose_text(c, "type", SPAN("text"));
	compose_member(c, "text", text);
	compose_close(c, '}');
}

static void put_content(struct compose *c, struct span blocks, enum mcp_version revision)
{
	struct span block;

	compose_key(c, "content");
	if (revision >= MCP_2025_06_18 || blocks.p[0] != '[') {
		put_block(c, blocks, revision);
		return;
	}
	compose_open(c, '[');
	while (raw_next_in(c->index, &blocks, &block)) {
		compose_element(c, (struct span){0});
		put_block(c, block, revision);
	}
	compose_close(c, ']');
}

static void put_messages(struct compose *c, struct span messages, enum mcp_version revision)
{
	static const char *const content_only[] = {"content", NULL};
	struct span message, content;

	compose_key(c, "messages");
	compose_open(c, '[');
	while (raw_next_in(c->index, &messages, &message)) {
		compose_element(c, (struct span){0});
		compose_open(c, '{');
		compose_members(c, message, content_only);
		if (raw_member(message, "content", &content))
			put_content(c, content, revision);
		compose_close(c, '}');
	}
	compose_close(c, ']');
}

enum { CONTENT, TOOLS, STRUCTURED, MESSAGES, META, REWRITTEN_COUNT };

/* Looked for once: a result may be long. */
static const char *const rewritten[] = {[CONTENT] = "content",
    [TOOLS] = "tools",
    [STRUCTURED] = "structuredContent",
    [MESSAGES] = "messages",
    [META] = "_meta",
    [REWRITTEN_COUNT] = NULL};

static void put_result(struct compose *c, struct span result, enum mcp_version revision)
{
	static const char *const dropped[] = {"resultType", "ttlMs", "cacheScope", "_meta", "tools",
	    "structuredContent", "content", "messages", NULL};
	struct span found[REWRITTEN_COUNT], first;

	raw_members_in(c->index, result, rewritten, found);
	struct span content = found[CONTENT], structured = found[STRUCTURED], rest = content;
	compose_key(c, "result");
	compose_open(c, '{');
	compose_members(c, result, dropped);
	if (found[TOOLS].p && found[TOOLS].p[0] == '[')
		put_tools(c, found[TOOLS]);
	if (structured.p && structured.p[0] != '{' && content.p &&
	    !raw_next_in(c->index, &rest, &first))
		put_as_text(c, structured);
	else if (content.p)
		put_content(c, content, revision);
	if (found[MESSAGES].p && found[MESSAGES].p[0] == '[' && revision < MCP_2025_06_18)
		put_messages(c, found[MESSAGES], revision);
	else if (found[MESSAGES].p)
		compose_member(c, "messages", found[MESSAGES]);
	if (structured.p && structured.p[0] == '{')
		compose_member(c, "structuredContent", structured);
	if (found[META].p) {
		compose_key(c, "_meta");
		compose_open(c, '{');
		compose_members(c, found[META], reserved_meta);
		compose_close(c, '}');
	}
	compose_close(c, '}');
}

/* The codes -32020 to -32022 would tell a dual-era client that the server is modern. */
static void put_error(struct compose *c, struct span error)
{
	struct span code = {0};

	raw_member(error, "code", &code);
	long number = code.n > 0 && code.n < 20 ? strtol(code.p, NULL, 10) : -32603;
	if (number > -32020 || number < -32099) {
		compose_member(c, "error", error);
		return;
	}
	struct span message = SPAN("\"\"");
	raw_member(error, "message", &message);
	compose_key(c, "error");
	compose_open(c, '{');
	compose_integer(c, "code", -32603);
	compose_member(c, "message", message);
	compose_member(c, "data", error);
	compose_close(c, '}');
}

void to_legacy_answer(struct compose *c, const struct envelope *e, const struct translation *t)
{
	c->index = &e->index;
	translate_begin(c, t->id);
	if (e->kind == ENVELOPE_RESULT)
		put_result(c, e->result, t->revision);
	else
		put_error(c, e->error);
	compose_close(c, '}');
}

void to_legacy_notice(struct compose *c, const struct envelope *e)
{
	static const char *const meta_only[] = {"_meta", NULL};
	struct span meta;

	c->index = &e->index;
	compose_open(c, '{');
	compose_member(c, "jsonrpc", SPAN("\"2.0\""));
	compose_text(c, "method", e->method);
	if (e->params.p) {
		compose_key(c, "params");
		compose_open(c, '{');
		if (raw_object(e->params, "_meta", &meta)) {
			compose_key(c, "_meta");
			compose_open(c, '{');
			compose_members(c, meta, reserved_meta);
			compose_close(c, '}');
		}
		compose_members(c, e->params, meta_only);
		compose_close(c, '}');
	}
	compose_close(c, '}');
}

/* --- initialize ---------------------------------------------------------------------------------
 */

static void put_server_info(struct compose *c, struct span result, const char *name)
{
	struct span meta, info;

	if (raw_member(result, "_meta", &meta) &&
	    raw_object(meta, "io.modelcontextprotocol/serverInfo", &info)) {
		compose_member(c, "serverInfo", info);
		return;
	}
	compose_key(c, "serverInfo");
	compose_open(c, '{');
	compose_text(c, "name", span_of(name));
	compose_text(c, "version", SPAN("unknown"));
	compose_close(c, '}');
}

void to_legacy_initialize(struct compose *c, struct span result, struct span id,
    enum mcp_version version, const char *name)
{
	static const char *const unknown[] = {"extensions", "tasks", NULL};
	struct span capabilities = SPAN("{}"), instructions;

	raw_member(result, "capabilities", &capabilities);
	translate_begin(c, id);
	compose_key(c, "result");
	compose_open(c, '{');
	compose_text(c, "protocolVersion", mcp_versions[version].date);
	compose_key(c, "capabilities");
	compose_open(c, '{');
	compose_members(c, capabilities, unknown);
	compose_close(c, '}');
	put_server_info(c, result, name);
	if (raw_member(result, "instructions", &instructions))
		compose_member(c, "instructions", instructions);
	compose_close(c, '}');
	compose_close(c, '}');
}

/* --- both ---------------------------------------------------------------------------------------
 */

static const struct span progress = {"notifications/progress", 22};
static const struct span log_message = {"notifications/message", 21};

static void put_progress(struct compose *c, const struct envelope *e, const struct translation *t)
{
	static const char *const token[] = {"progressToken", NULL};
	static const char *const no_message[] = {"progressToken", "message", NULL};

	compose_key(c, "params");
	compose_open(c, '{');
	compose_member(c, "progressToken", t->token);
	compose_members(c, e->params, t->revision == MCP_2024_11_05 ? no_message : token);
	compose_close(c, '}');
}

bool translate_notification(
    struct compose *c, const struct envelope *e, const struct translation *t)
{
	bool is_progress = span_equal(e->method, progress);

	if (is_progress ? t->token.n == 0 : !span_equal(e->method, log_message) || !t->keep_log)
		return false;
	compose_open(c, '{');
	compose_member(c, "jsonrpc", SPAN("\"2.0\""));
	compose_text(c, "method", e->method);
	if (is_progress)
		put_progress(c, e, t);
	else if (e->params.p)
		compose_member(c, "params", e->params);
	compose_close(c, '}');
	return true;
}

void translate_begin(struct compose *c, struct span id)
{
	compose_open(c, '{');
	compose_member(c, "jsonrpc", SPAN("\"2.0\""));
	compose_member(c, "id", id);
}

void translate_list_changed(struct compose *c, const char *list)
{
	compose_raw(c, SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/"));
	compose_raw(c, span_of(list));
	compose_raw(c, SPAN("/list_changed\"}"));
}

void translate_error(
    struct compose *c, struct span id, int code, struct span message, struct span data)
{
	translate_begin(c, id);
	compose_key(c, "error");
	compose_open(c, '{');
	compose_integer(c, "code", code);
	compose_text(c, "message", message);
	if (data.n > 0)
		compose_member(c, "data", data);
	compose_close(c, '}');
	compose_close(c, '}');
}
