/* protocol: see protocol.h. A method is a row of `methods`, a notification a row of
 * `notifications`. */
#include "master/demo/protocol.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "master/demo/call.h"
#include "master/demo/content.h"
#include "master/demo/json.h"
#include "common/raw.h"
#include "master/demo/tools.h"

/* Strings and integers may identify a request or a progress token; null may not. */
static bool is_id(const cJSON *item)
{
	return cJSON_IsString(item) || (cJSON_IsNumber(item) && isfinite(item->valuedouble) &&
					   item->valuedouble == floor(item->valuedouble));
}

/* The JSON text of a string or integer that stands as `key` in `object`. The caller frees it.
 * Integers stay as they came, of any size; other spellings (1e3, escapes of a string) are
 * normalised, so that equal ids are equal texts. */
static char *member_text(struct span object, const char *key, const cJSON *item)
{
	struct span raw;

	if (cJSON_IsNumber(item) && raw_member(object, key, &raw) && raw_is_integer(raw))
		return strndup(raw.p, raw.n);
	return cJSON_PrintUnformatted(item);
}

static enum incoming_kind message_kind(const cJSON *json)
{
	const char *version = json_string(json, "jsonrpc");
	const cJSON *id = json_member(json, "id");
	const cJSON *params = json_member(json, "params");

	if (!cJSON_IsObject(json) || !version || strcmp(version, "2.0") != 0)
		return INCOMING_INVALID;
	if (!json_member(json, "method"))
		return is_id(id) && !json_member(json, "result") != !json_member(json, "error")
			   ? INCOMING_RESPONSE
			   : INCOMING_INVALID;
	if (!cJSON_IsString(json_member(json, "method")) || (id && !is_id(id)) ||
	    (params && !cJSON_IsObject(params)))
		return INCOMING_INVALID;
	return id ? INCOMING_REQUEST : INCOMING_NOTIFICATION;
}

static void incoming_count(struct incoming *in, const cJSON *json)
{
	enum incoming_kind kind = message_kind(json);

	if (in->count++ == 0)
		in->first = kind;
	in->requests += kind == INCOMING_REQUEST || kind == INCOMING_INVALID;
	if (kind == INCOMING_REQUEST && strcmp(json_string(json, "method"), "initialize") == 0)
		in->initialize = true;
}

int incoming_parse(struct span text, struct incoming *out)
{
	const char *end = NULL;

	*out = (struct incoming){.text = text, .first = INCOMING_INVALID};
	cJSON *json = cJSON_ParseWithLengthOpts(text.p, text.n, &end, false);
	if (!json)
		return -EBADMSG;
	for (; end < text.p + text.n; end++) {
		if (!strchr(" \t\r\n", *end) || !*end) {
			cJSON_Delete(json);
			return -EBADMSG;
		}
	}
	out->json = json;
	out->batch = cJSON_IsArray(json);
	if (out->batch) {
		const cJSON *item;
		cJSON_ArrayForEach(item, json) incoming_count(out, item);
	} else {
		incoming_count(out, json);
	}
	return 0;
}

void incoming_release(struct incoming *in)
{
	cJSON_Delete(in->json);
	in->json = NULL;
}

/* Form elicitation: `elicitation: {}` means form, and 2025-11-25 names the modes. */
static bool client_can_elicit(enum revision revision, const cJSON *params)
{
	const cJSON *elicitation = json_member(json_member(params, "capabilities"), "elicitation");

	if (revision < REVISION_2025_06_18 || !cJSON_IsObject(elicitation))
		return false;
	return !elicitation->child || json_member(elicitation, "form");
}

static void initialize_answer(const struct request *r)
{
	const struct session *s = r->session;
	cJSON *result = cJSON_CreateObject();
	cJSON *info = cJSON_CreateObject();
	bool complete = cJSON_AddStringToObject(info, "name", "margay-demo") &&
			cJSON_AddStringToObject(info, "version", MARGAY_VERSION);

	if (s->revision >= REVISION_2025_06_18)
		complete = cJSON_AddStringToObject(info, "title", "Margay demo server") && complete;
	complete = json_add(result, "serverInfo", info) && complete;
	complete =
	    cJSON_AddStringToObject(result, "protocolVersion", revision_names[s->revision]) &&
	    cJSON_AddRawToObject(result, "capabilities",
		s->revision >= REVISION_2025_03_26
		    ? "{\"tools\":{},\"resources\":{\"subscribe\":true},\"prompts\":{},"
		      "\"logging\":{},\"completions\":{}}"
		    : "{\"tools\":{},\"resources\":{\"subscribe\":true},\"prompts\":{},"
		      "\"logging\":{}}") &&
	    cJSON_AddStringToObject(result, "instructions",
		"A demonstration: every tool is harmless and needs no rights.") &&
	    complete;
	exchange_result(r->exchange, r->id, json_finish(result, complete));
}

static void handle_initialize(const struct request *r)
{
	const char *wanted = json_string(r->params, "protocolVersion");
	enum revision revision;
	struct session *s = r->session;

	if (s && s->initialized) {
		exchange_error(r->exchange, r->id, RPC_INVALID_REQUEST, "Already initialized");
		return;
	}
	if (!wanted || !cJSON_IsObject(json_member(r->params, "capabilities"))) {
		exchange_error(r->exchange, r->id, RPC_INVALID_PARAMS,
		    "initialize needs protocolVersion and capabilities");
		return;
	}
	if (!s) {
		int error = session_create(&r->server->sessions, &s);
		if (error) {
			exchange_error(r->exchange, r->id, RPC_SERVER_ERROR,
			    error == -ENOBUFS ? "Too many sessions" : strerror(-error));
			return;
		}
		session_enter(s, r->exchange);
	}
	if (!revision_parse(span_of(wanted), &revision) ||
	    (revision == REVISION_2024_11_05 && !r->server->stdio))
		revision = (enum revision)(REVISIONS - 1);
	s->revision = revision;
	s->initialized = true;
	s->can_elicit = client_can_elicit(revision, r->params);
	struct request in_session = *r;
	in_session.session = s;
	initialize_answer(&in_session);
}

static void handle_ping(const struct request *r)
{
	exchange_result(r->exchange, r->id, cJSON_CreateObject());
}

/* Most talkative first, as RFC 5424 orders them; the index is session->log_level. */
static const char *const log_levels[] = {
    "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"};

int log_level_parse(const char *name)
{
	for (size_t i = 0; name && i < sizeof(log_levels) / sizeof(log_levels[0]); i++)
		if (strcmp(name, log_levels[i]) == 0)
			return (int)i;
	return -1;
}

static void handle_set_level(const struct request *r)
{
	int level = log_level_parse(json_string(r->params, "level"));

	if (level < 0) {
		exchange_error(r->exchange, r->id, RPC_INVALID_PARAMS, "No such log level");
		return;
	}
	r->session->log_level = level;
	exchange_result(r->exchange, r->id, cJSON_CreateObject());
}

static const struct method {
	const char *name;
	void (*handle)(const struct request *);
	bool before_initialize;
} methods[] = {
    {"tools/call", tools_call, false},
    {"tools/list", tools_list, false},
    {"initialize", handle_initialize, true},
    {"ping", handle_ping, true},
    {"resources/list", resources_list, false},
    {"resources/templates/list", resources_templates_list, false},
    {"resources/read", resources_read, false},
    {"resources/subscribe", resources_subscribe, false},
    {"resources/unsubscribe", resources_unsubscribe, false},
    {"prompts/list", prompts_list, false},
    {"prompts/get", prompts_get, false},
    {"completion/complete", completion_complete, false},
    {"logging/setLevel", handle_set_level, false},
};

static void request_run(struct request *r, const char *name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (strcmp(name, methods[i].name) != 0)
			continue;
		if (!methods[i].before_initialize && !(r->session && r->session->initialized))
			exchange_error(r->exchange, r->id, RPC_INVALID_REQUEST,
			    "The session is not initialized");
		else
			methods[i].handle(r);
		return;
	}
	exchange_error(r->exchange, r->id, RPC_METHOD_NOT_FOUND, "Method not found");
}

static void request_dispatch(
    struct server *server, struct exchange *x, const cJSON *json, struct span raw, bool batch)
{
	const cJSON *params = json_member(json, "params");
	const cJSON *token = json_member(json_member(params, "_meta"), "progressToken");
	struct span raw_params, raw_meta = {0};
	const char *name = json_string(json, "method");
	char *id = member_text(raw, "id", json_member(json, "id"));
	char *token_text = NULL;

	if (is_id(token)) {
		if (!raw_member(raw, "params", &raw_params) ||
		    !raw_member(raw_params, "_meta", &raw_meta))
			raw_meta = (struct span){"", 0};
		token_text = member_text(raw_meta, "progressToken", token);
	}
	struct request r = {.server = server,
	    .exchange = x,
	    .session = x->session,
	    .params = params,
	    .id = id,
	    .token = token_text};
	if (!id || (is_id(token) && !token_text))
		exchange_answer(x, -ENOMEM, NULL);
	else if (batch && strcmp(name, "initialize") == 0)
		exchange_error(x, id, RPC_INVALID_REQUEST, "initialize may not be in a batch");
	else
		request_run(&r, name);
	free(id);
	free(token_text);
}

static void notified_cancelled(struct session *s, const cJSON *params, struct span raw)
{
	const cJSON *item = json_member(params, "requestId");
	struct span raw_params = {"", 0};

	if (!is_id(item))
		return;
	if (!raw_member(raw, "params", &raw_params))
		raw_params = (struct span){"", 0};
	char *id = member_text(raw_params, "requestId", item);
	if (id)
		call_cancel(s, id);
	free(id);
}

/* Notifications that mean nothing to this server (initialized, roots/list_changed) have no row. */
static const struct notification {
	const char *name;
	void (*handle)(struct session *s, const cJSON *params, struct span raw);
} notifications[] = {
    {"notifications/cancelled", notified_cancelled},
};

static void notification_dispatch(struct session *s, const cJSON *json, struct span raw)
{
	const char *name = json_string(json, "method");

	for (size_t i = 0; s && i < sizeof(notifications) / sizeof(notifications[0]); i++)
		if (strcmp(name, notifications[i].name) == 0)
			notifications[i].handle(s, json_member(json, "params"), raw);
}

static void response_dispatch(struct session *s, const cJSON *json, struct span raw)
{
	char *id = member_text(raw, "id", json_member(json, "id"));

	if (s && id)
		call_response(s, id, json);
	free(id);
}

/* An invalid message is answered with its id where that can be read. */
static void invalid_dispatch(struct exchange *x, const cJSON *json, struct span raw)
{
	const cJSON *item = json_member(json, "id");
	char *id = is_id(item) ? member_text(raw, "id", item) : NULL;

	exchange_error(x, id, RPC_INVALID_REQUEST, "Not a JSON-RPC 2.0 message");
	free(id);
}

static void message_dispatch(
    struct server *server, struct exchange *x, const cJSON *json, struct span raw, bool batch)
{
	switch (message_kind(json)) {
	case INCOMING_REQUEST:
		request_dispatch(server, x, json, raw, batch);
		return;
	case INCOMING_NOTIFICATION:
		notification_dispatch(x->session, json, raw);
		return;
	case INCOMING_RESPONSE:
		response_dispatch(x->session, json, raw);
		return;
	case INCOMING_INVALID:
		invalid_dispatch(x, json, raw);
		return;
	}
}

const char *batch_refusal(const struct exchange *x, const struct incoming *in)
{
	if (!x->session || !x->session->initialized || x->session->revision != REVISION_2025_03_26)
		return "Only revision 2025-03-26 has batches";
	if (in->count == 0)
		return "A batch holds at least one message";
	return in->count > BATCH_MAX ? "Too many messages in a batch" : NULL;
}

void protocol_dispatch(struct server *server, struct exchange *x, const struct incoming *in)
{
	struct span rest = in->text, raw;
	const cJSON *item;

	if (!in->batch) {
		x->pending += in->requests;
		message_dispatch(server, x, in->json, in->text, false);
		return;
	}
	const char *refusal = batch_refusal(x, in);
	if (refusal) {
		x->pending++;
		exchange_error(x, NULL, RPC_INVALID_REQUEST, refusal);
		return;
	}
	x->pending += in->requests;
	cJSON_ArrayForEach(item, in->json)
	{
		if (!raw_next(&rest, &raw))
			raw = (struct span){"", 0};
		message_dispatch(server, x, item, raw, true);
	}
}
