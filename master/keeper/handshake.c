/* handshake: initialize, the client's or our own, on its way to a child. See instance.h. */
#include <stdio.h>

#include "common/raw.h"
#include "master/keeper/peer.h"

static const char protocol_version[] = "2025-11-25"; /* of handshakes of our own */

bool instance_open(
    struct instance *i, struct peer *p, const struct frame *frame, const struct envelope *e)
{
	struct call *call =
	    call_create(i, p, NULL, frame->request, CALL_OPEN, e->id, e->progress_token);

	if (!call)
		return false;
	i->opener = p;
	/* Kept to initialize a new process as this one was. */
	if (i->fleet->config->restartable &&
	    buffer_append(&i->handshake, e->text.p, e->text.n, STREAM_MESSAGE_MAX)) {
		call_free(call);
		return false;
	}
	return true;
}

void instance_handshake(struct instance *i)
{
	char message[512];
	struct span text = buffer_span(&i->handshake), pieces[3] = {text}, id;
	unsigned count = 1;
	char number[24];
	struct call *call =
	    call_create(i, NULL, NULL, 0, CALL_HANDSHAKE, (struct span){0}, (struct span){0});

	if (!call) {
		instance_fail_start(i, "out of memory");
		return;
	}
	int digits = snprintf(number, sizeof(number), "%llu", (unsigned long long)call->number);
	if (i->shared) {
		int n = snprintf(message, sizeof(message),
		    "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"initialize\",\"params\":{"
		    "\"protocolVersion\":\"%s\",\"capabilities\":{\"roots\":{},\"sampling\":{},"
		    "\"elicitation\":{}},\"clientInfo\":{\"name\":\"margay\",\"version\":\"%s\"}}}",
		    number, protocol_version, MARGAY_VERSION);
		pieces[0] = (struct span){message, (size_t)n};
	} else {
		/* It was scanned when it came. */
		if (!raw_member(text, "id", &id)) {
			instance_fail_start(i, "its handshake was not kept");
			return;
		}
		size_t before = (size_t)(id.p - text.p);
		pieces[0].n = before;
		pieces[1] = (struct span){number, (size_t)digits};
		pieces[2] = (struct span){id.p + id.n, text.n - before - id.n};
		count = 3;
	}
	if (instance_write(i, pieces, count))
		instance_fail_start(i, "it can't be written to");
}
