/* numbers: decimal numbers of a command line. */
#ifndef MARGAY_TESTS_LOAD_NUMBERS_H
#define MARGAY_TESTS_LOAD_NUMBERS_H

#include "common/attributes.h"

/* 0, or -EINVAL when it is not digits only or not from `min` to `max`. */
int number_parse(const char *text, unsigned min, unsigned max, unsigned *out) MUST_CHECK;

#endif
