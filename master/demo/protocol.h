/*
 * protocol: JSON-RPC messages in, calls of the method table out.
 *
 * Knows MCP but no transport: what it has to say goes to the exchange that the message came with.
 * Revisions 2024-11-05, 2025-03-26, 2025-06-18 and 2025-11-25.
 */
#ifndef MARGAY_MASTER_DEMO_PROTOCOL_H
#define MARGAY_MASTER_DEMO_PROTOCOL_H

#include <cjson/cJSON.h>
#include <ev.h>
#include <stdbool.h>

#include "common/attributes.h"
#include "common/span.h"
#include "master/demo/exchange.h"
#include "master/demo/session.h"

/* What all transports and tools share; made by demo.c or a test. */
struct server {
	struct ev_loop *loop;
	struct session_table sessions;
	bool stdio; /* 2024-11-05 has no Streamable HTTP: it is offered on stdio only */
	bool sse;   /* answer every POST by SSE */
};

/* One request while its handler runs. */
struct request {
	struct server *server;
	struct exchange *exchange;
	struct session *session;
	const cJSON *params; /* an object, or NULL */
	const char *id;      /* JSON text */
	const char *token;   /* progress token, JSON text; NULL when there is none */
};

enum { INCOMING_MAX = 4 << 20, BATCH_MAX = 100 };

enum incoming_kind { INCOMING_REQUEST, INCOMING_NOTIFICATION, INCOMING_RESPONSE, INCOMING_INVALID };

/* A parsed body or line. `text` is borrowed. */
struct incoming {
	cJSON *json;
	struct span text;
	bool batch;
	bool initialize;   /* one of the messages is the initialize request */
	unsigned count;    /* messages */
	unsigned requests; /* answers that will be sent: requests, and invalid messages */
	enum incoming_kind first;
};

/* 0, or -EBADMSG when the text is not JSON, or too deep. */
int incoming_parse(struct span text, struct incoming *out) MUST_CHECK;
void incoming_release(struct incoming *in);

/* Handle every message. The exchange is in its session already, except for an initialize, which
 * makes the session and enters it. Counts the answers to come in `pending` before sending any. */
void protocol_dispatch(struct server *server, struct exchange *x, const struct incoming *in);
/* Why the batch is not handled, or NULL. Batches exist in 2025-03-26 only, hold at least one
 * message, and not very many. */
const char *batch_refusal(const struct exchange *x, const struct incoming *in);
/* May a log message of this level (debug ... emergency) go to the session? -1 for no level. */
int log_level_parse(const char *name);

#endif
