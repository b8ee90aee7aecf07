/*
 * message: one JSON-RPC message on its way out, as text.
 *
 * A message may have a hole of filler bytes inside a string, so that a large answer is never built
 * in memory (see output.h). Ids are JSON text, exactly as they came in.
 */
#ifndef MARGAY_MASTER_DEMO_MESSAGE_H
#define MARGAY_MASTER_DEMO_MESSAGE_H

#include <cjson/cJSON.h>
#include <stddef.h>

#include "common/attributes.h"
#include "master/demo/output.h"

/* JSON-RPC 2.0, 5.1, and MCP's own -32002 (all revisions before 2026-07-28). */
enum rpc_error {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL_ERROR = -32603,
	RPC_RESOURCE_NOT_FOUND = -32002,
	RPC_SERVER_ERROR = -32000
};

struct message {
	char *text; /* NUL-terminated, owned */
	size_t length;
	size_t hole; /* offset in the text before which the filler goes */
	size_t fill; /* bytes of filler */
};

/* All return 0 or -ENOMEM and take over the cJSON value, in either case; NULL means out of memory.
 */
int message_result(struct message *m, const char *id, cJSON *result) MUST_CHECK;
int message_request(
    struct message *m, const char *id, const char *method, cJSON *params) MUST_CHECK;
int message_notification(struct message *m, const char *method, cJSON *params) MUST_CHECK;
/* `id` may be NULL: null is sent then, as JSON-RPC asks when the id could not be read. */
int message_error(struct message *m, const char *id, int code, const char *text) MUST_CHECK;
/* A tool result whose text is `fill` bytes of filler. */
int message_filler(struct message *m, const char *id, size_t fill) MUST_CHECK;
size_t message_size(const struct message *m);
/* Append to an output. 0 or -ENOMEM. */
int message_output(const struct message *m, struct output *o) MUST_CHECK;
void message_release(struct message *m);

#endif
