/* utf8: well-formed UTF-8 (RFC 3629), one sequence at a time. */
#ifndef MARGAY_COMMON_UTF8_H
#define MARGAY_COMMON_UTF8_H

#include <stddef.h>

/* Length of the sequence at p, of which n > 0 bytes are there; 0 when it is not well-formed or cut
 * short. */
size_t utf8_length(const unsigned char *p, size_t n);

#endif
