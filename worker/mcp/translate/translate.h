/*
 * translate: one message of one era written anew for the other (mcp-wire 3).
 *
 * Pure: bytes in, bytes out, no state, no input or output, so that each can be fuzzed. Values pass
 * as they came; only what differs between the eras is touched. The messages that come in were
 * scanned (envelope.h). Errors are latched in the compose.
 *
 *   to_modern.c     what a legacy side said, for a modern one
 *   to_legacy.c     what a modern side said, for a legacy one
 *   capabilities.c  what clients can do: fingerprints of the one era, objects of the other
 *   annotation.c    which arguments of a tool are repeated in headers
 */
#ifndef MARGAY_WORKER_MCP_TRANSLATE_TRANSLATE_H
#define MARGAY_WORKER_MCP_TRANSLATE_TRANSLATE_H

#include "common/compose.h"
#include "common/envelope.h"
#include "worker/mcp/method.h"
#include "worker/mcp/version.h"

/* What an answer and what comes before it are translated by. */
struct translation {
	const struct mcp_method *method;
	struct span id;            /* the client's, raw JSON */
	struct span token;         /* its progress token, raw JSON, or empty */
	struct span server_info;   /* of a legacy upstream, raw JSON, or empty */
	enum mcp_version revision; /* of the legacy side */
	bool keep_log;             /* notifications/message are wanted */
};

/* --- to_modern.c ------------------------------------------------------------------------------ */

/* Who a legacy client is; all raw JSON. */
struct client_identity {
	struct span capabilities; /* as a modern client would give them */
	struct span info;         /* or empty */
	struct span level;        /* of log messages, or empty */
};

/* What a request that is sent again brings along; raw JSON, or empty. */
struct retry_inputs {
	struct span responses, state;
};

/* A request of a legacy client, with an id of ours, which is its progress token, too. */
void to_modern_request(struct compose *c, const struct envelope *e, struct span id,
    const struct client_identity *who, const struct retry_inputs *inputs);
/* subscriptions/listen for all that a DiscoverResult announces, and an array of URIs. */
void to_modern_listen(struct compose *c, struct span id, const struct client_identity *who,
    struct span discover, struct span uris);
/* The result that ends a listen. */
void to_modern_listen_end(struct compose *c, struct span id);
/* A legacy server's answer. */
void to_modern_answer(struct compose *c, const struct envelope *e, const struct translation *t);
/* A legacy server's error -32042: URLs that the user must have seen before the request is made
 * again. A client that can't be asked for that is told so; the status to answer with is returned.
 */
unsigned to_modern_urls(struct compose *c, const struct envelope *e, const struct translation *t,
    unsigned capabilities);
/* It failed because its client could not be asked: the status to answer with is returned. */
unsigned to_modern_missing(struct compose *c, struct span id, unsigned capabilities);
bool is_about_urls(const struct envelope *e);
/* A legacy server's InitializeResult as the answer to server/discover. */
void to_modern_discover(struct compose *c, struct span result, struct span id);

/* --- to_legacy.c ------------------------------------------------------------------------------ */

/* A request of a modern client, with an id of ours, which is its progress token, too. */
void to_legacy_request(struct compose *c, const struct envelope *e, struct span id);
/* The response to a question that this client can't be asked; ping is answered. */
void to_legacy_refusal(struct compose *c, struct span id, struct span method);
/* A modern server's complete answer or error. */
void to_legacy_answer(struct compose *c, const struct envelope *e, const struct translation *t);
/* What a modern server says to those who listen. */
void to_legacy_notice(struct compose *c, const struct envelope *e);
/* A modern server's DiscoverResult as the answer to initialize; `name` stands in for its own. */
void to_legacy_initialize(struct compose *c, struct span result, struct span id,
    enum mcp_version version, const char *name);

/* --- both ---------------------------------------------------------------------------------------
 */

/* A notification that came before an answer, either way: progress under the client's own token.
 * False when it is not for this client; then nothing was written. */
bool translate_notification(
    struct compose *c, const struct envelope *e, const struct translation *t);
/* notifications/LIST/list_changed. */
void translate_list_changed(struct compose *c, const char *list);
/* Begin a message with this id: the object is open. */
void translate_begin(struct compose *c, struct span id);
/* An error of ours as a whole message; `data` raw or empty. */
void translate_error(
    struct compose *c, struct span id, int code, struct span message, struct span data);

/* --- capabilities.c -----------------------------------------------------------------------------
 */

/* What a client can be asked for, as bits: sessions with a legacy server are shared by clients
 * that can do the same. */
enum capability {
	CAPABILITY_ROOTS = 1,
	CAPABILITY_SAMPLING = 2,
	CAPABILITY_SAMPLING_TOOLS = 4,
	CAPABILITY_SAMPLING_CONTEXT = 8,
	CAPABILITY_ELICITATION_FORM = 16,
	CAPABILITY_ELICITATION_URL = 32,
	CAPABILITY_ALL = 63,
};

/* Of a modern client's clientCapabilities. */
unsigned capabilities_bits(struct span capabilities);
/* ClientCapabilities of revision 2025-11-25. */
void capabilities_to_legacy(struct compose *c, unsigned bits);
/* A legacy client's, as a modern one would say it. */
void capabilities_to_modern(struct compose *c, struct span capabilities, enum mcp_version revision);
/* The capability that a question needs; 0 for what is none. `params` raw. */
unsigned capability_needed(struct span method, struct span params);

/* --- annotation.c --- */

enum { ANNOTATIONS_MAX = 32, ANNOTATION_DEPTH_MAX = 8, ANNOTATION_NAME_MAX = 128 };

/* An argument that Mcp-Param-NAME repeats. */
struct annotation {
	struct span name;
	struct span path[ANNOTATION_DEPTH_MAX]; /* keys, as written */
	unsigned depth;
};

struct annotations {
	unsigned count;
	struct annotation rows[ANNOTATIONS_MAX];
};

/* Those of a tool (raw JSON, which the spans point into). False when one of them is not as it must
 * be: then the tool must not be used (2026-07-28, streamable HTTP). */
bool annotations_of(struct span tool, struct annotations *out);
/* The raw value of that argument of a call; empty when there is none or it is null. */
struct span annotation_value(const struct annotation *row, const struct envelope *e);

#endif
