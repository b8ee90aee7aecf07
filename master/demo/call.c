/* call: see call.h. */
#include "master/demo/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "master/demo/json.h"
#include "master/demo/session.h"

enum { CALLS_PER_SESSION = 256 };

static void on_step(struct ev_loop *loop, ev_timer *timer, int events);

static int call_create(const struct request *r, struct call **out)
{
	if (r->session->calls_running >= CALLS_PER_SESSION)
		return -EBUSY;
	struct call *call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->id = strdup(r->id);
	call->token = r->token ? strdup(r->token) : NULL;
	if (!call->id || (r->token && !call->token)) {
		free(call->id);
		free(call->token);
		free(call);
		return -ENOMEM;
	}
	call->exchange = r->exchange;
	call->session = r->session;
	call->loop = r->server->loop;
	ev_init(&call->timer, on_step);
	TAILQ_INSERT_TAIL(&call->exchange->calls, call, exchange_link);
	TAILQ_INSERT_TAIL(&call->session->calls, call, session_link);
	call->session->calls_running++;
	*out = call;
	return 0;
}

void call_drop(struct call *call)
{
	ev_timer_stop(call->loop, &call->timer);
	TAILQ_REMOVE(&call->exchange->calls, call, exchange_link);
	TAILQ_REMOVE(&call->session->calls, call, session_link);
	call->session->calls_running--;
	free(call->id);
	free(call->token);
	free(call->ask_id);
	free(call);
}

/* notifications/progress; `message` is a member since 2025-03-26. */
static void call_progress(const struct call *call)
{
	char text[64];
	struct message m;
	cJSON *params = cJSON_CreateObject();

	bool complete = cJSON_AddRawToObject(params, "progressToken", call->token) &&
			cJSON_AddNumberToObject(params, "progress", call->done) &&
			cJSON_AddNumberToObject(params, "total", call->steps);

	if (call->session->revision >= REVISION_2025_03_26) {
		snprintf(text, sizeof(text), "step %u of %u", call->done, call->steps);
		complete = cJSON_AddStringToObject(params, "message", text) && complete;
	}
	params = json_finish(params, complete);
	int error = message_notification(&m, "notifications/progress", params);
	exchange_side(call->exchange, error, &m);
}

static void on_step(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct call *call = container_of(timer, struct call, timer);
	char text[64];

	(void)events;
	call->done++;
	if (call->token)
		call_progress(call);
	if (call->done < call->steps) {
		ev_timer_again(loop, timer);
		return;
	}
	snprintf(text, sizeof(text), "slept %.0f ms", call->milliseconds);
	exchange_text(call->exchange, call->id, text, false);
	call_drop(call);
}

int call_sleep(const struct request *r, double milliseconds, unsigned steps)
{
	struct call *call;
	int error = call_create(r, &call);

	if (error)
		return error;
	call->steps = steps;
	call->milliseconds = milliseconds;
	double step = milliseconds / 1000.0 / steps;
	ev_timer_set(&call->timer, step, step > 0 ? step : 1e-6);
	ev_timer_start(call->loop, &call->timer);
	return 0;
}

static const char ask_schema[] =
    "{\"type\":\"object\",\"properties\":{\"answer\":{\"type\":\"string\",\"title\":\"Answer\"}},"
    "\"required\":[\"answer\"]}";

int call_ask(const struct request *r, const char *question)
{
	struct call *call;
	struct message m;
	int error = call_create(r, &call);

	if (error)
		return error;
	if (asprintf(&call->ask_id, "\"ask-%llu\"", (unsigned long long)++call->session->asked) <
	    0) {
		call->ask_id = NULL;
		call_drop(call);
		return -ENOMEM;
	}
	cJSON *params = cJSON_CreateObject();
	bool complete = cJSON_AddStringToObject(params, "message", question) &&
			cJSON_AddRawToObject(params, "requestedSchema", ask_schema);
	if (call->session->revision >= REVISION_2025_11_25)
		complete = cJSON_AddStringToObject(params, "mode", "form") && complete;
	params = json_finish(params, complete);
	error = message_request(&m, call->ask_id, "elicitation/create", params);
	exchange_side(call->exchange, error, &m);
	return 0;
}

static void call_answered(struct call *call, const cJSON *response)
{
	const cJSON *result = json_member(response, "result");
	const char *action = json_string(result, "action");
	const char *answer = json_string(json_member(result, "content"), "answer");
	const char *reason = json_string(json_member(response, "error"), "message");

	if (action && strcmp(action, "accept") == 0 && answer)
		exchange_text(call->exchange, call->id, answer, false);
	else if (action && (strcmp(action, "decline") == 0 || strcmp(action, "cancel") == 0))
		exchange_text(call->exchange, call->id, action, true);
	else
		exchange_text(call->exchange, call->id,
		    reason ? reason : "The client's response fits no elicitation", true);
	call_drop(call);
}

void call_response(struct session *s, const char *id, const cJSON *response)
{
	struct call *call;

	TAILQ_FOREACH (call, &s->calls, session_link) {
		if (call->ask_id && strcmp(call->ask_id, id) == 0) {
			call_answered(call, response);
			return;
		}
	}
}

/* Tell the client that its user need not answer any more. */
static void call_withdraw(const struct call *call)
{
	struct message m;
	cJSON *params = cJSON_CreateObject();

	bool complete = cJSON_AddRawToObject(params, "requestId", call->ask_id) != NULL;

	params = json_finish(params, complete);
	int error = message_notification(&m, "notifications/cancelled", params);
	exchange_side(call->exchange, error, &m);
}

void call_cancel(struct session *s, const char *id)
{
	struct call *call;

	TAILQ_FOREACH (call, &s->calls, session_link) {
		if (strcmp(call->id, id) != 0)
			continue;
		if (call->ask_id)
			call_withdraw(call);
		exchange_answer(call->exchange, 0, NULL);
		call_drop(call);
		return;
	}
}

void call_abandon_asks(struct exchange *x)
{
	struct call *call, *next;

	TAILQ_FOREACH_SAFE (call, &x->calls, exchange_link, next) {
		if (!call->ask_id)
			continue;
		exchange_text(x, call->id, "The client left before it answered", true);
		call_drop(call);
	}
}
