/*
 * raw: where a value stands in the text of a JSON message.
 *
 * cJSON keeps numbers as doubles, which would change a 64-bit id or progress token. What must come
 * back exactly as it was sent is therefore found in the text. The text must already have been
 * parsed: these functions stay inside it whatever it holds, but only find things in valid JSON.
 *
 * To find what comes after a value is to go over it. Whoever parsed the text notes in an index
 * where its long values end, so that those are not gone over again; with NULL there is none.
 */
#ifndef MARGAY_COMMON_RAW_H
#define MARGAY_COMMON_RAW_H

#include <stdbool.h>

#include "common/span.h"

/* Bytes of a long value; how many are noted. */
enum { RAW_LONG = 64 * 1024, RAW_INDEX_MAX = 64 };

struct raw_index {
	unsigned count;
	struct span rows[RAW_INDEX_MAX]; /* by where they end */
};

/* A long value ended. When there is no room, it stands for the values within it. */
void raw_index_note(struct raw_index *index, struct span value);
/* The length of the value that begins at `p`, if it is in the index (or NULL); else 0. */
size_t raw_index_find(const struct raw_index *index, const char *p);

/* The value of the first member called `key` (spelled without escapes). False when there is none.
 */
bool raw_member(struct span object, const char *key, struct span *value);
/* Of each of these keys (the last is NULL) what raw_member would find, in one pass; p == NULL:
 * there is none. */
void raw_members_in(const struct raw_index *index, struct span object, const char *const keys[],
    struct span values[]);
/* As raw_member, if it is an object. */
bool raw_object(struct span object, const char *key, struct span *value);
/* Digits, perhaps after a minus, without a leading zero. */
bool raw_is_integer(struct span value);
/* Walk over an object's members: `rest` is the object, then what is left of it. The key is given
 * without its quotes, as written. */
bool raw_next_member_in(
    const struct raw_index *index, struct span *rest, struct span *key, struct span *value);
static inline bool raw_next_member(struct span *rest, struct span *key, struct span *value)
{
	return raw_next_member_in(NULL, rest, key, value);
}
/* The first of these keys (the last is NULL) that an object has: its index, or -1. What comes after
 * that key, which may be long, is not looked at. */
int raw_first(struct span object, const char *const keys[]);
/* Whether a key as written, perhaps with escapes, means this one. */
bool raw_key_is(struct span key, const char *name);
bool raw_key_begins(struct span key, const char *beginning);
/* Take the next element from the array or, after the first call, from the rest of it. */
bool raw_next_in(const struct raw_index *index, struct span *rest, struct span *element);
static inline bool raw_next(struct span *rest, struct span *element)
{
	return raw_next_in(NULL, rest, element);
}

#endif
