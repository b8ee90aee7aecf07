/* exchange: see exchange.h. */
#include "master/demo/exchange.h"

#include <stddef.h>

#include "master/demo/call.h"
#include "master/demo/json.h"
#include "master/demo/session.h"

void exchange_init(struct exchange *x, const struct exchange_ops *ops)
{
	*x = (struct exchange){.ops = ops};
	TAILQ_INIT(&x->calls);
}

void exchange_close(struct exchange *x)
{
	struct call *call;

	while ((call = TAILQ_FIRST(&x->calls)))
		call_drop(call);
	session_leave(x);
	x->pending = 0;
}

void exchange_side(struct exchange *x, int error, struct message *m)
{
	if (error)
		x->ops->fail(x);
	else
		x->ops->side(x, m);
	message_release(m);
}

void exchange_answer(struct exchange *x, int error, struct message *m)
{
	x->pending--;
	if (error)
		x->ops->fail(x);
	else
		x->ops->answer(x, m);
	if (m)
		message_release(m);
}

void exchange_result(struct exchange *x, const char *id, cJSON *result)
{
	struct message m;
	int error = message_result(&m, id, result);

	exchange_answer(x, error, &m);
}

void exchange_error(struct exchange *x, const char *id, int code, const char *text)
{
	struct message m;
	int error = message_error(&m, id, code, text);

	exchange_answer(x, error, &m);
}

void exchange_text(struct exchange *x, const char *id, const char *text, bool is_error)
{
	cJSON *result = cJSON_CreateObject();
	cJSON *item = cJSON_CreateObject();
	bool complete = cJSON_AddStringToObject(item, "type", "text") &&
			cJSON_AddStringToObject(item, "text", text);

	complete = json_append(cJSON_AddArrayToObject(result, "content"), item) && complete;
	if (is_error && !cJSON_AddTrueToObject(result, "isError"))
		complete = false;
	exchange_result(x, id, json_finish(result, complete));
}
