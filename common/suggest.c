/* suggest: Levenshtein distance with one row of memory on the stack. */
#include "common/suggest.h"

#include <ctype.h>
#include <string.h>

enum { EDITS_MAX = 3 };

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned edits(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned row[SUGGEST_WORD_MAX + 1];

	for (size_t j = 0; j <= b_length; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			int same =
			    tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
			unsigned replaced = diagonal + (same ? 0 : 1);

			diagonal = row[j];
			row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_length];
}

const char *suggest(const char *word, const char *const *candidates, size_t n)
{
	size_t length = strnlen(word, SUGGEST_WORD_MAX + 1);
	const char *best = NULL;
	unsigned allowed;

	if (length == 0 || length > SUGGEST_WORD_MAX)
		return NULL;
	allowed = least((unsigned)(length + 2) / 3, EDITS_MAX);
	for (size_t i = 0; i < n; i++) {
		size_t other = strnlen(candidates[i], SUGGEST_WORD_MAX + 1);
		unsigned distance;

		if (other > SUGGEST_WORD_MAX)
			continue;
		distance = edits(word, length, candidates[i], other);
		if (distance < allowed || (distance == allowed && !best)) {
			best = candidates[i];
			allowed = distance;
		}
	}
	return best;
}
