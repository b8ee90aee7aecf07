/* request: one line of the control socket, understood (docs/control-socket.md). */
#ifndef MARGAY_MASTER_SUPERVISOR_REQUEST_H
#define MARGAY_MASTER_SUPERVISOR_REQUEST_H

#include <stdbool.h>

#include "common/attributes.h"
#include "common/span.h"

enum { REQUEST_WORD_MAX = 1024 };

/* The text under a key of the request: its `command`, or an argument. Cut to REQUEST_WORD_MAX.
 * False when the line is no request, or has no such text. */
bool request_text(struct span line, const char *key, char out[REQUEST_WORD_MAX]) MUST_CHECK;

#endif
