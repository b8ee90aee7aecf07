/* units: one table for each kind, largest unit first so that the formatters find the shortest. */
#include "common/units.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { DIGITS_MAX = 10 };

static const struct {
	const char *name;
	double seconds;
} duration_units[] = {{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}, {"ms", 0.001}};

static const struct {
	const char *name;
	size_t bytes;
	int written; /* by size_format */
} size_units[] = {
    {"GiB", (size_t)1 << 30, 1},
    {"MiB", (size_t)1 << 20, 1},
    {"KiB", (size_t)1 << 10, 1},
    {"GB", 1000000000, 0},
    {"MB", 1000000, 0},
    {"kB", 1000, 0},
    {"B", 1, 0},
};

/* Digits with at most one point between digits; no locale, so no strtod. */
static int number_parse(const char **text, double *value)
{
	const char *p = *text;
	double scale = 1;
	int digits = 0;

	*value = 0;
	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++, digits++)
		*value = *value * 10 + (*p - '0');
	if (*p == '.') {
		if (!isdigit((unsigned char)*++p))
			return -EINVAL;
		for (; isdigit((unsigned char)*p); p++, digits++) {
			scale /= 10;
			*value += (*p - '0') * scale;
		}
	}
	*text = p;
	return digits > DIGITS_MAX ? -ERANGE : 0;
}

int duration_parse(const char *text, double *seconds)
{
	double number;
	int error = number_parse(&text, &number);

	if (error == -EINVAL)
		return error;
	if (*text == '\0' && fpclassify(number) == FP_ZERO) {
		*seconds = 0;
		return 0;
	}
	for (size_t i = 0; i < sizeof(duration_units) / sizeof(duration_units[0]); i++) {
		if (strcmp(text, duration_units[i].name) != 0)
			continue;
		if (error)
			return error;
		*seconds = number * duration_units[i].seconds;
		return 0;
	}
	return -EINVAL;
}

int size_parse(const char *text, size_t *bytes)
{
	size_t number = 0, unit = 0;
	int overflow = 0;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++) {
		overflow |= __builtin_mul_overflow(number, 10, &number);
		overflow |= __builtin_add_overflow(number, (size_t)(*text - '0'), &number);
	}
	if (*text == '\0')
		unit = 1;
	for (size_t i = 0; i < sizeof(size_units) / sizeof(size_units[0]); i++) {
		if (strcmp(text, size_units[i].name) == 0)
			unit = size_units[i].bytes;
	}
	if (unit == 0)
		return -EINVAL;
	overflow |= __builtin_mul_overflow(number, unit, &number);
	if (overflow)
		return -ERANGE;
	*bytes = number;
	return 0;
}

void duration_format(double seconds, char text[UNITS_TEXT_MAX])
{
	uint64_t ms = (uint64_t)llround(seconds * 1000);

	if (ms == 0) {
		snprintf(text, UNITS_TEXT_MAX, "0");
		return;
	}
	for (size_t i = 0; i < sizeof(duration_units) / sizeof(duration_units[0]); i++) {
		uint64_t unit = (uint64_t)llround(duration_units[i].seconds * 1000);

		if (ms % unit == 0) {
			snprintf(text, UNITS_TEXT_MAX, "%llu%s", (unsigned long long)(ms / unit),
			    duration_units[i].name);
			return;
		}
	}
}

void size_format(size_t bytes, char text[UNITS_TEXT_MAX])
{
	for (size_t i = 0; i < sizeof(size_units) / sizeof(size_units[0]); i++) {
		if (size_units[i].written && bytes > 0 && bytes % size_units[i].bytes == 0) {
			snprintf(text, UNITS_TEXT_MAX, "%zu%s", bytes / size_units[i].bytes,
			    size_units[i].name);
			return;
		}
	}
	snprintf(text, UNITS_TEXT_MAX, "%zu", bytes);
}
