/*
 * envelope: what a gateway must know of a JSON-RPC message, found in one pass over its raw bytes.
 *
 * The scan validates the whole text (RFC 8259 grammar, UTF-8, depth, no duplicate keys where it
 * matters) and returns spans into it; it never converts a number and copies nothing, so what is
 * forwarded is what came in. Bounded by the length of its input and the depth limit; never
 * recurses.
 */
#ifndef MARGAY_COMMON_ENVELOPE_H
#define MARGAY_COMMON_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attributes.h"
#include "common/raw.h"
#include "common/span.h"

enum envelope_kind { ENVELOPE_REQUEST, ENVELOPE_NOTIFICATION, ENVELOPE_RESULT, ENVELOPE_ERROR };

/*
 * Strings are given without their quotes, escapes undone only if they had any (then `unescaped`
 * holds them: a name that was written with escapes equals the same name written without). Absent
 * members have p == NULL.
 */
struct envelope {
	enum envelope_kind kind;
	struct span id; /* raw JSON: `7`, `"a"`; for an error reply also `null` */
	struct span method;
	struct span params; /* raw JSON value */
	struct span result; /* raw JSON value of a result */
	struct span error;  /* raw JSON value of an error */
	struct span name;   /* params.name */
	struct span uri;    /* params.uri */
	struct span meta;   /* params._meta, raw JSON object */
	struct span
	    protocol_version; /* params.protocolVersion (initialize) or result.protocolVersion */
	struct span meta_version; /* params._meta["io.modelcontextprotocol/protocolVersion"] */
	struct span
	    client_capabilities;    /* raw JSON of "io.modelcontextprotocol/clientCapabilities" */
	struct span progress_token; /* raw JSON of params._meta.progressToken */
	struct span progress_of;    /* raw JSON of params.progressToken (notifications/progress) */
	struct span cancelled_id;   /* raw JSON of params.requestId */
	struct span text;           /* the whole message, without space around it */
	char unescaped[1024]; /* backs spans whose text had escapes; longer ones are refused */
	size_t unescaped_length;
	struct raw_index index; /* of the whole message */
};

struct envelope_fault {
	int code;           /* JSON-RPC: -32700 not JSON, -32600 not a JSON-RPC message */
	const char *reason; /* literal */
	size_t offset;      /* of the byte where it was noticed */
};

/*
 * Scan one message. 0 with *out filled, or -EINVAL with *fault filled; out->id is set in both cases
 * when it could be read, so that an error reply can echo it. -E2BIG (with *fault) when it is a
 * batch: use envelope_batch.
 */
int envelope_scan(struct span text, unsigned depth, struct envelope *out,
    struct envelope_fault *fault) MUST_CHECK;
/*
 * Scan a JSON array of messages. `each` gets every element in order; a non-zero return stops and is
 * returned. Empty arrays are refused. Otherwise as envelope_scan.
 */
int envelope_batch(struct span text, unsigned depth,
    int (*each)(void *context, const struct envelope *message), void *context,
    struct envelope_fault *fault) MUST_CHECK;

/*
 * A long text, some bytes at a time: it must stay where it is. NULL when memory is short.
 *
 * envelope_step: -EAGAIN when there is more to do, else what envelope_scan would return; then *out
 * and *fault are filled, and spans of *out may be within `steps`. Not to be called again after
 * that. A run of digits or of space is not divided.
 */
struct envelope_steps;
struct envelope_steps *envelope_steps_begin(struct span text, unsigned depth) MUST_CHECK;
int envelope_step(struct envelope_steps *steps, size_t bytes, struct envelope *out,
    struct envelope_fault *fault) MUST_CHECK;
/*
 * The same with a batch: -EAGAIN, or what envelope_batch would return. Each message counts as
 * ENVELOPE_MESSAGE_COST bytes more than it has: to take one costs more than to scan it.
 */
enum { ENVELOPE_MESSAGE_COST = 1024 };
int envelope_batch_step(struct envelope_steps *steps, size_t bytes,
    int (*each)(void *context, const struct envelope *message), void *context,
    struct envelope_fault *fault) MUST_CHECK;
/* What the last step found, once more. */
void envelope_steps_found(const struct envelope_steps *steps, struct envelope *out);
void envelope_steps_free(struct envelope_steps *steps);

/* As raw_member, in an object of the message; p == NULL: there is none. */
struct span envelope_member(const struct envelope *e, struct span object, const char *key);

#endif
