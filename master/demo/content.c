/* content: see content.h. Fixed texts, so the answers are JSON written out here; only what a client
 * sent goes through cJSON, which escapes it. */
#include "master/demo/content.h"

#include <stdio.h>
#include <stdlib.h>

#include "master/demo/json.h"

#define GREETING_URI    "demo://greeting"
#define GREETING_PREFIX GREETING_URI "/"

static void answer_raw(const struct request *r, const char *json)
{
	exchange_result(r->exchange, r->id, cJSON_CreateRaw(json));
}

/* Nothing here is longer than one page: a cursor can only be wrong. */
static void answer_list(const struct request *r, const char *json)
{
	if (json_member(r->params, "cursor"))
		exchange_error(r->exchange, r->id, RPC_INVALID_PARAMS, "No such cursor");
	else
		answer_raw(r, json);
}

void resources_list(const struct request *r)
{
	answer_list(r, "{\"resources\":[{\"uri\":\"" GREETING_URI "\",\"name\":\"greeting\","
		       "\"description\":\"A greeting; touch_resource changes it.\","
		       "\"mimeType\":\"text/plain\"}]}");
}

void resources_templates_list(const struct request *r)
{
	answer_list(r,
	    "{\"resourceTemplates\":[{\"uriTemplate\":\"" GREETING_PREFIX "{name}\","
	    "\"name\":\"personal greeting\",\"description\":\"A greeting for somebody.\","
	    "\"mimeType\":\"text/plain\"}]}");
}

/* The text of a resource, or NULL when there is none of this name. The caller frees it. */
static char *greeting_text(const char *uri, bool *found)
{
	const char *name = uri + strlen(GREETING_PREFIX);
	char *text = NULL;

	*found = true;
	if (strcmp(uri, GREETING_URI) == 0)
		return strdup("Hello from the Margay demo server.");
	if (strncmp(uri, GREETING_PREFIX, strlen(GREETING_PREFIX)) != 0 || !*name) {
		*found = false;
		return NULL;
	}
	if (asprintf(&text, "Hello, %s.", name) < 0)
		return NULL;
	return text;
}

void resources_read(const struct request *r)
{
	const char *uri = json_string(r->params, "uri");
	bool found = false;
	char *text = uri ? greeting_text(uri, &found) : NULL;

	if (!found) {
		exchange_error(r->exchange, r->id,
		    uri ? RPC_RESOURCE_NOT_FOUND : RPC_INVALID_PARAMS,
		    uri ? "Resource not found" : "uri must be a string");
		return;
	}
	cJSON *result = cJSON_CreateObject();
	cJSON *item = cJSON_CreateObject();
	bool complete = text && cJSON_AddStringToObject(item, "uri", uri) &&
			cJSON_AddStringToObject(item, "mimeType", "text/plain") &&
			cJSON_AddStringToObject(item, "text", text);
	complete = json_append(cJSON_AddArrayToObject(result, "contents"), item) && complete;
	free(text);
	exchange_result(r->exchange, r->id, json_finish(result, complete));
}

static void set_subscription(const struct request *r, bool on)
{
	const char *uri = json_string(r->params, "uri");

	if (!uri || strcmp(uri, GREETING_URI) != 0) {
		exchange_error(r->exchange, r->id,
		    uri ? RPC_RESOURCE_NOT_FOUND : RPC_INVALID_PARAMS,
		    "Only " GREETING_URI " can be subscribed to");
		return;
	}
	session_subscribe(r->session, on);
	answer_raw(r, "{}");
}

void resources_subscribe(const struct request *r)
{
	set_subscription(r, true);
}

void resources_unsubscribe(const struct request *r)
{
	set_subscription(r, false);
}

void prompts_list(const struct request *r)
{
	answer_list(r, "{\"prompts\":[{\"name\":\"summarize\",\"description\":\"Asks for a summary "
		       "of a text.\","
		       "\"arguments\":[{\"name\":\"text\",\"description\":\"What to summarize\","
		       "\"required\":true}]}]}");
}

void prompts_get(const struct request *r)
{
	const char *name = json_string(r->params, "name");
	const char *text = json_string(json_member(r->params, "arguments"), "text");
	char *prompt = NULL;

	if (!name || strcmp(name, "summarize") != 0 || !text) {
		exchange_error(r->exchange, r->id, RPC_INVALID_PARAMS,
		    "The only prompt is summarize, and it needs text");
		return;
	}
	cJSON *result = cJSON_CreateObject();
	cJSON *item = cJSON_CreateObject();
	cJSON *content = cJSON_AddObjectToObject(item, "content");
	bool complete =
	    asprintf(&prompt, "Summarize this text in one sentence:\n\n%s", text) >= 0 &&
	    cJSON_AddStringToObject(result, "description", "Asks for a summary of a text.") &&
	    cJSON_AddStringToObject(item, "role", "user") &&
	    cJSON_AddStringToObject(content, "type", "text") &&
	    cJSON_AddStringToObject(content, "text", prompt);
	complete = json_append(cJSON_AddArrayToObject(result, "messages"), item) && complete;
	free(prompt);
	exchange_result(r->exchange, r->id, json_finish(result, complete));
}

/* Texts that are offered for the prompt's argument. */
static const char *const completions[] = {
    "a newspaper article", "a novel", "an e-mail thread", "minutes of a meeting"};

void completion_complete(const struct request *r)
{
	const cJSON *ref = json_member(r->params, "ref");
	const cJSON *argument = json_member(r->params, "argument");
	const char *type = json_string(ref, "type");
	const char *prompt = json_string(ref, "name");
	const char *name = json_string(argument, "name");
	const char *value = json_string(argument, "value");

	if (!type || !name || !value ||
	    (strcmp(type, "ref/prompt") == 0 && (!prompt || strcmp(prompt, "summarize") != 0))) {
		exchange_error(r->exchange, r->id, RPC_INVALID_PARAMS, "Nothing to complete");
		return;
	}
	cJSON *result = cJSON_CreateObject();
	cJSON *completion = cJSON_AddObjectToObject(result, "completion");
	cJSON *values = cJSON_AddArrayToObject(completion, "values");
	bool offers = strcmp(type, "ref/prompt") == 0 && strcmp(name, "text") == 0;
	bool complete = values != NULL;
	for (size_t i = 0; offers && i < sizeof(completions) / sizeof(completions[0]); i++)
		if (strncmp(completions[i], value, strlen(value)) == 0)
			complete =
			    json_append(values, cJSON_CreateString(completions[i])) && complete;
	complete = cJSON_AddNumberToObject(completion, "total", cJSON_GetArraySize(values)) &&
		   cJSON_AddFalseToObject(completion, "hasMore") && complete;
	exchange_result(r->exchange, r->id, json_finish(result, complete));
}
