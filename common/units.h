/*
 * units: durations and sizes as operators write them, and back.
 *
 * Durations are seconds (double) with a unit of ms, s, m, h or d; sizes are bytes, plain or with B,
 * KiB, MiB, GiB (1024) or kB, MB, GB (1000). No sign, exponent, blank or second unit is taken.
 */
#ifndef MARGAY_COMMON_UNITS_H
#define MARGAY_COMMON_UNITS_H

#include <stddef.h>

#include "common/attributes.h"

/* Enough for any text that the formatters write, with its NUL. */
enum { UNITS_TEXT_MAX = 32 };

/* What to write instead, for messages. */
#define UNITS_DURATION_REMEDY "write a number with ms, s, m, h or d, as in 30s"
#define UNITS_SIZE_REMEDY     "write bytes or a number with B, KiB, MiB or GiB, as in 4MiB"

/* "30s", "1.5h", or "0" without a unit. 0, -EINVAL (no duration), -ERANGE (over 10 digits). */
int duration_parse(const char *text, double *seconds) MUST_CHECK;
/* "16KiB", "4096". 0, -EINVAL (no size), -ERANGE (does not fit size_t). */
int size_parse(const char *text, size_t *bytes) MUST_CHECK;
/* The shortest whole number of the largest unit: 90 is "90s", 3600 "1h". Rounded to ms. */
void duration_format(double seconds, char text[UNITS_TEXT_MAX]);
void size_format(size_t bytes, char text[UNITS_TEXT_MAX]);

#endif
