/*
 * reference: `${env:NAME}` and `${file:PATH}` in a text, so that secrets stay out of the
 * configuration.
 */
#ifndef MARGAY_COMMON_CONFIG_REFERENCE_H
#define MARGAY_COMMON_CONFIG_REFERENCE_H

#include "common/attributes.h"
#include "common/buffer.h"

enum { REFERENCE_MAX = 64 * 1024 }; /* bytes of an expanded text */

/*
 * Append `text` with its references resolved; `$${` becomes `${`. A file's text comes without the
 * newline at its end. 0; -EINVAL with `why` filled ("`${env:KEY}`: the variable is not set");
 * -ENOMEM. Reads files.
 */
int reference_expand(const char *text, struct buffer *out, char *why, size_t size) MUST_CHECK;
/* Append `text` so that nothing in it is a reference, with a NUL at the end. 0, -ENOMEM, -EMSGSIZE.
 */
int reference_escape(const char *text, struct buffer *out) MUST_CHECK;

#endif
