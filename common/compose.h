/*
 * compose: JSON written piece by piece around values that stay as they came.
 *
 * Numbers, key order and members nobody here knows survive, as they would not in cJSON. The first
 * error is latched: write everything, then look at `error` once. Whoever writes keeps the
 * brackets balanced.
 *
 * Long values of a text that has an index may be left out and only noted, as cuts: then they are
 * not copied in one go, but must stay where they are.
 */
#ifndef MARGAY_COMMON_COMPOSE_H
#define MARGAY_COMMON_COMPOSE_H

#include <stdbool.h>

#include "common/buffer.h"
#include "common/raw.h"
#include "common/span.h"

enum { COMPOSE_CUTS_MAX = 64 };

/* Values that are to stand in what was written. */
struct compose_cuts {
	unsigned count;
	size_t bytes; /* of all */
	struct {
		size_t at; /* behind so many bytes of what was written */
		struct span value;
	} rows[COMPOSE_CUTS_MAX];
};

struct compose {
	struct buffer *out;
	size_t bound;                  /* bytes, with those of the cuts */
	const struct raw_index *index; /* of the text that compose_members finds members in */
	struct compose_cuts *cuts;     /* NULL: everything is copied */
	int error;                     /* -ENOMEM or -EMSGSIZE */
	bool comma;                    /* something stands before the next member or element */
};

/* How long it is, with its cuts. */
size_t compose_length(const struct compose *c);
/* Bytes as they are. */
void compose_raw(struct compose *c, struct span raw);
/* The key of the next member; its value must follow. */
void compose_key(struct compose *c, const char *key);
/* Begin an object or array here, '{' or '['; end it. */
void compose_open(struct compose *c, char bracket);
void compose_close(struct compose *c, char bracket);
/* A member: raw JSON, text to be escaped, an integer. */
void compose_member(struct compose *c, const char *key, struct span raw);
void compose_text(struct compose *c, const char *key, struct span text);
void compose_integer(struct compose *c, const char *key, long long value);
/* A raw element of an array. */
void compose_element(struct compose *c, struct span raw);
/*
 * The members of a raw object, except those whose key is in `without` (ended by NULL; a name that
 * ends in `/` means all keys that begin with it).
 */
void compose_members(struct compose *c, struct span object, const char *const *without);

#endif
