/*
 * field: the header fields that Margay reads, by number.
 *
 * The reader names each field of a head once (field.def has them all); whoever wants one finds it
 * without comparing names. No two of them have the same length and first letter: a unit test says
 * so when a row is added.
 */
#ifndef MARGAY_WORKER_HTTP_FIELD_H
#define MARGAY_WORKER_HTTP_FIELD_H

#include <stdbool.h>

#include "common/span.h"

enum http_field {
	HTTP_OTHER,
#define FIELD(id, letter, name, times) id,
#include "worker/http/field.def"
#undef FIELD
	HTTP_FIELD_COUNT
};

/* Lower case; empty for HTTP_OTHER. */
extern const struct span http_field_names[HTTP_FIELD_COUNT];

/* Which field a token is, ignoring case (RFC 9110, 5.1). */
enum http_field http_field_of(struct span name);
/* A message may carry it once only: a second one could be read by somebody else. */
bool http_field_is_single(enum http_field field);

#endif
