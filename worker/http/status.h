/* status: HTTP reason phrases and the error body that Margay itself answers with. */
#ifndef MARGAY_WORKER_HTTP_STATUS_H
#define MARGAY_WORKER_HTTP_STATUS_H

#include "common/buffer.h"
#include "common/span.h"

/* The first line of an answer, with its end (RFC 9112, 4); 500 for a status that is not in the
 * table. */
struct span status_line(unsigned status);

/*
 * A JSON-RPC error object into `out` (appended). `id` is raw JSON or empty: then the error has no
 * id, as MCP has it where the request could not be read. `data` is raw JSON or empty. `message` is
 * escaped. 0 or -errno.
 */
int status_error_body(
    struct buffer *out, struct span id, int code, const char *message, struct span data) MUST_CHECK;

#endif
