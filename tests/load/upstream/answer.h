/* answer: what the upstream says to a request: the table of methods of both eras. */
#ifndef MARGAY_TESTS_LOAD_UPSTREAM_ANSWER_H
#define MARGAY_TESTS_LOAD_UPSTREAM_ANSWER_H

#include "common/span.h"

struct conn;

/* Answer the request that `c` has read, or make `c` the stream that answers it. */
void answer_request(struct conn *c, struct span body);

#endif
