/* message: see message.h. */
#include "master/demo/message.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "master/demo/json.h"

/* Print and delete `json`. */
static int message_print(struct message *m, cJSON *json, bool complete)
{
	*m = (struct message){0};
	json = json_finish(json, complete);
	m->text = json ? cJSON_PrintUnformatted(json) : NULL;
	cJSON_Delete(json);
	if (!m->text)
		return -ENOMEM;
	m->length = m->hole = strlen(m->text);
	return 0;
}

static cJSON *message_begin(const char *id, bool *complete)
{
	cJSON *json = cJSON_CreateObject();

	*complete = cJSON_AddStringToObject(json, "jsonrpc", "2.0") != NULL;
	if (id && !cJSON_AddRawToObject(json, "id", id))
		*complete = false;
	return json;
}

int message_result(struct message *m, const char *id, cJSON *result)
{
	bool complete;
	cJSON *json = message_begin(id, &complete);

	complete = json_add(json, "result", result) && complete;
	return message_print(m, json, complete);
}

int message_request(struct message *m, const char *id, const char *method, cJSON *params)
{
	bool complete;
	cJSON *json = message_begin(id, &complete);

	complete = cJSON_AddStringToObject(json, "method", method) && complete;
	complete = json_add(json, "params", params) && complete;
	return message_print(m, json, complete);
}

int message_notification(struct message *m, const char *method, cJSON *params)
{
	return message_request(m, NULL, method, params);
}

int message_error(struct message *m, const char *id, int code, const char *text)
{
	bool complete;
	cJSON *json = message_begin(id ? id : "null", &complete);
	cJSON *error = cJSON_CreateObject();

	complete = cJSON_AddNumberToObject(error, "code", code) && complete;
	complete = cJSON_AddStringToObject(error, "message", text) && complete;
	complete = json_add(json, "error", error) && complete;
	return message_print(m, json, complete);
}

int message_filler(struct message *m, const char *id, size_t fill)
{
	*m = (struct message){0};
	int n = asprintf(&m->text,
	    "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\","
	    "\"text\":\"\"}]}}",
	    id);
	if (n < 0) {
		m->text = NULL;
		return -ENOMEM;
	}
	m->length = (size_t)n;
	m->hole = (size_t)n - strlen("\"}]}}");
	m->fill = fill;
	return 0;
}

size_t message_size(const struct message *m)
{
	return m->length + m->fill;
}

int message_output(const struct message *m, struct output *o)
{
	int error = output_bytes(o, (struct span){m->text, m->hole});

	if (!error)
		error = output_fill(o, m->fill);
	if (!error)
		error = output_bytes(o, (struct span){m->text + m->hole, m->length - m->hole});
	return error;
}

void message_release(struct message *m)
{
	cJSON_free(m->text);
	*m = (struct message){0};
}
