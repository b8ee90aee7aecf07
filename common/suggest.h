/*
 * suggest: "did you mean", for configuration keys and command words.
 *
 * Owns nothing and allocates nothing: the answer is one of the candidates.
 */
#ifndef MARGAY_COMMON_SUGGEST_H
#define MARGAY_COMMON_SUGGEST_H

#include <stddef.h>

/* Words longer than this are never compared, so that hostile input costs nothing. */
enum { SUGGEST_WORD_MAX = 64 };

/*
 * The candidate nearest to `word` by edits (insert, delete, replace; ASCII case ignored), the first
 * of equals. NULL when none is near: more than a third of the word, or three edits, away.
 */
const char *suggest(const char *word, const char *const *candidates, size_t n);

#endif
