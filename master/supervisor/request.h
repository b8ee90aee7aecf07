/* request: one line of the control socket, understood (docs/control-socket.md). */
#ifndef MARGAY_MASTER_SUPERVISOR_REQUEST_H
#define MARGAY_MASTER_SUPERVISOR_REQUEST_H

#include <stdbool.h>

#include "common/attributes.h"
#include "common/span.h"

enum { REQUEST_WORD_MAX = 64 };

/* The command that a line asks for, cut to REQUEST_WORD_MAX. False when the line is no request. */
bool request_word(struct span line, char word[REQUEST_WORD_MAX]) MUST_CHECK;

#endif
