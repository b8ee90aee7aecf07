/*
 * tools: see tools.h. A tool is one row: what tools/list says of it and the function that runs it.
 * Arguments are checked by the function; wrong ones are answered as the revision asks: a tool error
 * that a model can read, not a protocol error.
 */
#include "master/demo/tools.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "master/demo/call.h"
#include "master/demo/json.h"

enum { SLEEP_MAX_MILLISECONDS = 3600 * 1000, SLEEP_MAX_STEPS = 1000, BIG_MAX = 64 << 20 };

static const cJSON *argument(const struct request *r, const char *key)
{
	return json_member(json_member(r->params, "arguments"), key);
}

static void answer_text(const struct request *r, const char *text)
{
	exchange_text(r->exchange, r->id, text, false);
}

static void answer_wrong(const struct request *r, const char *text)
{
	exchange_text(r->exchange, r->id, text, true);
}

/* A number, or an integer, in a range; or false. */
static bool argument_number(
    const struct request *r, const char *key, double low, double high, double *out)
{
	const cJSON *item = argument(r, key);

	if (!cJSON_IsNumber(item) || !(item->valuedouble >= low && item->valuedouble <= high))
		return false;
	*out = item->valuedouble;
	return true;
}

static bool argument_integer(
    const struct request *r, const char *key, double low, double high, double *out)
{
	return argument_number(r, key, low, high, out) && *out == floor(*out);
}

static void run_echo(const struct request *r)
{
	const char *text = cJSON_GetStringValue(argument(r, "text"));

	if (text)
		answer_text(r, text);
	else
		answer_wrong(r, "text must be a string");
}

static void run_add(const struct request *r)
{
	double a, b;
	char text[64];

	if (!argument_number(r, "a", -HUGE_VAL, HUGE_VAL, &a) ||
	    !argument_number(r, "b", -HUGE_VAL, HUGE_VAL, &b) || !isfinite(a + b)) {
		answer_wrong(r, "a and b must be numbers with a finite sum");
		return;
	}
	snprintf(text, sizeof(text), "%.15g", a + b);
	if (r->session->revision < REVISION_2025_06_18) {
		answer_text(r, text);
		return;
	}
	/* structuredContent, and the same as text for clients that do not read it. */
	struct message m;
	char json[256];
	snprintf(json, sizeof(json),
	    "{\"content\":[{\"type\":\"text\",\"text\":\"{\\\"sum\\\":%s}\"}],"
	    "\"structuredContent\":{\"sum\":%s}}",
	    text, text);
	int error = message_result(&m, r->id, cJSON_CreateRaw(json));
	exchange_answer(r->exchange, error, &m);
}

/* What a call that could not start answers. */
static void answer_not_started(const struct request *r, int error)
{
	if (error == -EBUSY)
		answer_wrong(r, "Too many calls run in this session");
	else if (error)
		exchange_error(r->exchange, r->id, RPC_INTERNAL_ERROR, strerror(-error));
}

static void run_sleep(const struct request *r)
{
	double milliseconds, steps = r->token ? 10 : 1;

	if (!argument_number(r, "milliseconds", 0, SLEEP_MAX_MILLISECONDS, &milliseconds)) {
		answer_wrong(r, "milliseconds must be a number from 0 to 3600000");
		return;
	}
	if (argument(r, "steps") && !argument_integer(r, "steps", 1, SLEEP_MAX_STEPS, &steps)) {
		answer_wrong(r, "steps must be an integer from 1 to 1000");
		return;
	}
	answer_not_started(r, call_sleep(r, milliseconds, (unsigned)steps));
}

static void run_ask(const struct request *r)
{
	const char *question = cJSON_GetStringValue(argument(r, "question"));

	if (!question)
		answer_wrong(r, "question must be a string");
	else if (!r->session->can_elicit)
		answer_wrong(r, "The client did not declare the elicitation capability");
	else
		answer_not_started(r, call_ask(r, question));
}

static void run_big(const struct request *r)
{
	double bytes;
	struct message m;

	if (!argument_integer(r, "bytes", 0, BIG_MAX, &bytes)) {
		answer_wrong(r, "bytes must be an integer from 0 to 67108864");
		return;
	}
	int error = message_filler(&m, r->id, (size_t)bytes);
	exchange_answer(r->exchange, error, &m);
}

static void run_log(const struct request *r)
{
	const char *level = cJSON_GetStringValue(argument(r, "level"));
	const char *text = cJSON_GetStringValue(argument(r, "text"));
	int rank = log_level_parse(level);

	if (rank < 0 || !text) {
		answer_wrong(r, "level must be a log level and text a string");
		return;
	}
	if (rank < r->session->log_level) {
		answer_text(r, "below the session's level");
		return;
	}
	struct message m;
	cJSON *params = cJSON_CreateObject();
	bool complete = cJSON_AddStringToObject(params, "level", level) &&
			cJSON_AddStringToObject(params, "logger", "demo") &&
			cJSON_AddStringToObject(params, "data", text);
	params = json_finish(params, complete);
	int error = message_notification(&m, "notifications/message", params);
	exchange_side(r->exchange, error, &m);
	answer_text(r, "logged");
}

static void run_count(const struct request *r)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)++r->session->counter);
	answer_text(r, text);
}

static void run_touch_resource(const struct request *r)
{
	session_touch(&r->server->sessions);
	answer_text(r, "touched demo://greeting");
}

#define OBJECT(properties, required) \
	"{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required "]}"

static const struct tool {
	const char *name;
	void (*run)(const struct request *);
	const char *title;
	const char *description;
	const char *input;  /* JSON Schema */
	const char *output; /* JSON Schema or NULL */
} tools[] = {
    {"echo", run_echo, "Echo", "Returns the text it is given.",
	OBJECT("\"text\":{\"type\":\"string\"}", "\"text\""), NULL},
    {"add", run_add, "Add", "Adds two numbers.",
	OBJECT("\"a\":{\"type\":\"number\"},\"b\":{\"type\":\"number\"}", "\"a\",\"b\""),
	OBJECT("\"sum\":{\"type\":\"number\"}", "\"sum\"")},
    {"sleep", run_sleep, "Sleep", "Waits, and tells its progress when a progress token is given.",
	OBJECT("\"milliseconds\":{\"type\":\"number\",\"minimum\":0,\"maximum\":3600000},"
	       "\"steps\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000}",
	    "\"milliseconds\""),
	NULL},
    {"ask", run_ask, "Ask", "Asks the user a question (elicitation) and returns the answer.",
	OBJECT("\"question\":{\"type\":\"string\"}", "\"question\""), NULL},
    {"big", run_big, "Big", "Returns that many bytes of text.",
	OBJECT("\"bytes\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":67108864}", "\"bytes\""),
	NULL},
    {"log", run_log, "Log", "Sends a log message.",
	OBJECT("\"level\":{\"type\":\"string\",\"enum\":[\"debug\",\"info\",\"notice\",\"warning\","
	       "\"error\",\"critical\",\"alert\",\"emergency\"]},\"text\":{\"type\":\"string\"}",
	    "\"level\",\"text\""),
	NULL},
    {"count", run_count, "Count", "Counts its calls in this session.",
	"{\"type\":\"object\",\"properties\":{}}", NULL},
    {"touch_resource", run_touch_resource, "Touch resource",
	"Tells the subscribers of demo://greeting that it changed.",
	"{\"type\":\"object\",\"properties\":{}}", NULL},
};

static cJSON *tool_describe(const struct tool *tool, enum revision revision)
{
	cJSON *json = cJSON_CreateObject();
	bool complete = cJSON_AddStringToObject(json, "name", tool->name) &&
			cJSON_AddStringToObject(json, "description", tool->description) &&
			cJSON_AddRawToObject(json, "inputSchema", tool->input);

	if (revision >= REVISION_2025_06_18) {
		complete = cJSON_AddStringToObject(json, "title", tool->title) && complete;
		if (tool->output)
			complete =
			    cJSON_AddRawToObject(json, "outputSchema", tool->output) && complete;
	}
	return json_finish(json, complete);
}

void tools_list(const struct request *r)
{
	if (json_member(r->params, "cursor")) {
		exchange_error(r->exchange, r->id, RPC_INVALID_PARAMS, "No such cursor");
		return;
	}
	cJSON *result = cJSON_CreateObject();
	cJSON *list = cJSON_AddArrayToObject(result, "tools");
	bool complete = true;
	for (size_t i = 0; complete && i < sizeof(tools) / sizeof(tools[0]); i++)
		complete = json_append(list, tool_describe(&tools[i], r->session->revision));
	exchange_result(r->exchange, r->id, json_finish(result, complete));
}

void tools_call(const struct request *r)
{
	const char *name = json_string(r->params, "name");

	for (size_t i = 0; name && i < sizeof(tools) / sizeof(tools[0]); i++) {
		if (strcmp(name, tools[i].name) == 0) {
			tools[i].run(r);
			return;
		}
	}
	exchange_error(r->exchange, r->id, RPC_INVALID_PARAMS, "Unknown tool");
}
