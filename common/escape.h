/*
 * escape: the inside of a JSON string (RFC 8259, 7), to and from plain UTF-8.
 */
#ifndef MARGAY_COMMON_ESCAPE_H
#define MARGAY_COMMON_ESCAPE_H

#include "common/attributes.h"
#include "common/buffer.h"
#include "common/span.h"

/* Undo the escapes of a string that was found valid. Length, or -1 when it does not fit or holds
 * half a surrogate pair. */
long escape_undo(struct span raw, char *out, size_t size) MUST_CHECK;
/* Append a text, escaped. 0 or as buffer_append. */
int escape_append(struct buffer *out, struct span text, size_t bound) MUST_CHECK;

#endif
