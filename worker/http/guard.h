/*
 * guard: what http-parser lets pass and a gateway must not (docs/http.md has the table).
 *
 * Looks at raw lines before the parser does: line ends, field names and values, the request and
 * status line, and the framing of chunks. Keeps no bytes; a guard's verdict is a literal reason or
 * NULL.
 */
#ifndef MARGAY_WORKER_HTTP_GUARD_H
#define MARGAY_WORKER_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/span.h"

enum { GUARD_TARGET_MAX = 8192, GUARD_CHUNK_DIGITS = 8 };

struct guard_verdict {
	unsigned status;    /* what to answer a client */
	const char *reason; /* literal; NULL: passed */
};

/* A whole line without its CRLF. */
struct guard_verdict guard_request_line(struct span line);
struct guard_verdict guard_status_line(struct span line);
/* *name_length: bytes before the colon, when it passed. */
struct guard_verdict guard_field_line(struct span line, size_t *name_length);

/* The framing of a chunked body (RFC 9112, 7.1) without extensions. Zero-initialised. */
struct guard_chunks {
	uint64_t left;    /* bytes of the chunk's data still to come */
	uint32_t trailer; /* bytes of the trailer section so far */
	uint8_t state;
	uint8_t digits;
	bool done; /* the last CRLF was seen */
};

/*
 * Look at the next bytes of a chunked body. Returns how many of them belong to it (fewer than given
 * only once `done`); *reason is set when they are refused.
 */
size_t guard_chunks(
    struct guard_chunks *g, struct span bytes, size_t trailer_max, const char **reason);

#endif
