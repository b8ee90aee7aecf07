/* demo_fuzz: whatever JSON comes in, every message that goes out is JSON, and each request that was
 * counted is answered or still runs. */
#include <stdlib.h>
#include <string.h>

#include "master/demo/call.h"
#include "master/demo/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct exchange *x, const struct message *m)
{
	(void)x;
	if (!m)
		return;
	cJSON *json = cJSON_ParseWithLength(m->text, m->length);
	if (!json)
		abort();
	cJSON_Delete(json);
}

static void fail(struct exchange *x)
{
	(void)x;
	abort();
}

static const struct exchange_ops operations = {check, check, fail};

static void dispatch(struct server *server, struct exchange *x, struct span text)
{
	struct incoming in;

	if (incoming_parse(text, &in) != 0)
		return;
	protocol_dispatch(server, x, &in);
	incoming_release(&in);
}

/* Each line is one message, the first after an initialize for a revision with batches. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct server server = {.loop = ev_default_loop(0)};
	struct span rest = {(const char *)data, size};
	struct exchange x;
	const struct call *call;
	unsigned running = 0;

	session_table_init(&server.sessions, 2);
	exchange_init(&x, &operations);
	dispatch(&server, &x,
	    SPAN("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
		 "\"protocolVersion\":\"2025-03-26\",\"capabilities\":{}}}"));
	if (!x.session)
		abort();
	x.session->can_elicit = true;
	session_stream(x.session, &x);
	while (rest.n > 0) {
		const char *end = memchr(rest.p, '\n', rest.n);
		size_t n = end ? (size_t)(end - rest.p) : rest.n;

		dispatch(&server, &x, (struct span){rest.p, n});
		session_notify(&server.sessions, 1);
		n += end != NULL;
		rest = (struct span){rest.p + n, rest.n - n};
	}
	TAILQ_FOREACH (call, &x.calls, exchange_link)
		running++;
	if (running != x.pending)
		abort();
	exchange_close(&x);
	session_table_release(&server.sessions);
	return 0;
}
