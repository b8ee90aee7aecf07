/* raw: see raw.h. One pass over the bytes, strings skipped as wholes, depth counted by brackets. */
#include "common/raw.h"

#include <stddef.h>

#include "common/escape.h"
#include "common/plain.h"

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_space(struct span s, size_t at)
{
	while (at < s.n && is_space(s.p[at]))
		at++;
	return at;
}

/* `at` is the opening quote; returns one past the closing one, or the end. */
static size_t skip_string(struct span s, size_t at)
{
	for (at++; at < s.n;) {
		at += plain_length(s.p + at, s.n - at, PLAIN_INSIDE);
		if (at < s.n && s.p[at] == '"')
			return at + 1;
		while (at < s.n && s.p[at] == '\\') /* they come in runs */
			at += 2;
	}
	return s.n;
}

void raw_index_note(struct raw_index *index, struct span value)
{
	if (index->count == RAW_INDEX_MAX) {
		while (index->count > 0 && index->rows[index->count - 1].p > value.p)
			index->count--;
	}
	if (index->count < RAW_INDEX_MAX)
		index->rows[index->count++] = value;
}

size_t raw_index_find(const struct raw_index *index, const char *p)
{
	for (unsigned i = 0; index && i < index->count; i++) {
		if (index->rows[i].p == p)
			return index->rows[i].n;
	}
	return 0;
}

/* One past the value at `at`. */
static size_t skip_value(const struct raw_index *index, struct span s, size_t at)
{
	size_t depth = 0, noted = raw_index_find(index, s.p + at);

	if (noted > 0)
		return noted <= s.n - at ? at + noted : s.n;
	while (at < s.n) {
		if (depth > 0)
			at += plain_length(s.p + at, s.n - at, PLAIN_NESTED);
		if (at == s.n)
			return at;
		char c = s.p[at];
		if (c == '"') {
			at = skip_string(s, at);
			continue;
		}
		if (c == '{' || c == '[') {
			depth++;
		} else if (c == '}' || c == ']') {
			if (depth == 0)
				return at;
			depth--;
		} else if (depth == 0 && (c == ',' || is_space(c))) {
			return at;
		}
		at++;
	}
	return at;
}

/* A key and its colon; `rest` is then at the value. */
static bool next_key(struct span *rest, struct span *key)
{
	size_t at = skip_space(*rest, 0);

	if (at >= rest->n || (rest->p[at] != '{' && rest->p[at] != ','))
		return false;
	at = skip_space(*rest, at + 1);
	if (at >= rest->n || rest->p[at] != '"')
		return false;
	size_t end = skip_string(*rest, at);
	*key = (struct span){rest->p + at + 1, end - at >= 2 ? end - at - 2 : 0};
	at = skip_space(*rest, end);
	if (at >= rest->n || rest->p[at] != ':')
		return false;
	at = skip_space(*rest, at + 1);
	*rest = (struct span){rest->p + at, rest->n - at};
	return true;
}

static struct span next_value(const struct raw_index *index, struct span *rest)
{
	struct span value = {rest->p, skip_value(index, *rest, 0)};
	size_t end = skip_space(*rest, value.n);

	*rest = (struct span){rest->p + end, rest->n - end};
	return value;
}

bool raw_next_member_in(
    const struct raw_index *index, struct span *rest, struct span *key, struct span *value)
{
	if (!next_key(rest, key))
		return false;
	*value = next_value(index, rest);
	return value->n > 0;
}

/* The key without escapes, in `plain` if it has any; empty when it is longer than any known key. */
static struct span plain_key(struct span key, char *plain, size_t size)
{
	if (key.n == 0 || !memchr(key.p, '\\', key.n))
		return key;
	long n = escape_undo(key, plain, size);
	return (struct span){plain, n < 0 ? 0 : (size_t)n};
}

bool raw_key_is(struct span key, const char *name)
{
	char plain[128];
	struct span wanted = span_of(name);

	if (key.n > wanted.n) /* only then can it have escapes */
		key = plain_key(key, plain, sizeof(plain));
	return span_equal(key, wanted);
}

bool raw_key_begins(struct span key, const char *beginning)
{
	char plain[128];
	struct span wanted = span_of(beginning);

	key = plain_key(key, plain, sizeof(plain));
	key.n = key.n < wanted.n ? key.n : wanted.n;
	return span_equal(key, wanted);
}

bool raw_member(struct span object, const char *key, struct span *value)
{
	struct span name, found;

	while (raw_next_member(&object, &name, &found)) {
		if (raw_key_is(name, key)) {
			*value = found;
			return true;
		}
	}
	return false;
}

void raw_members_in(const struct raw_index *index, struct span object, const char *const keys[],
    struct span values[])
{
	struct span name, found;
	size_t missing = 0;

	for (; keys[missing]; missing++)
		values[missing] = (struct span){0};
	while (missing > 0 && raw_next_member_in(index, &object, &name, &found)) {
		for (size_t i = 0; keys[i]; i++) {
			if (values[i].p || !raw_key_is(name, keys[i]))
				continue;
			values[i] = found;
			missing--;
		}
	}
}

int raw_first(struct span object, const char *const keys[])
{
	struct span key;

	while (next_key(&object, &key)) {
		for (int i = 0; keys[i]; i++) {
			if (raw_key_is(key, keys[i]))
				return i;
		}
		if (next_value(NULL, &object).n == 0)
			break;
	}
	return -1;
}

bool raw_object(struct span object, const char *key, struct span *value)
{
	return raw_member(object, key, value) && value->p[0] == '{';
}

bool raw_is_integer(struct span value)
{
	size_t at = value.n > 0 && value.p[0] == '-';

	if (at == value.n || (value.p[at] == '0' && at + 1 < value.n))
		return false;
	for (; at < value.n; at++)
		if (value.p[at] < '0' || value.p[at] > '9')
			return false;
	return true;
}

bool raw_next_in(const struct raw_index *index, struct span *rest, struct span *element)
{
	size_t at = skip_space(*rest, 0);

	if (at >= rest->n || (rest->p[at] != '[' && rest->p[at] != ','))
		return false;
	at = skip_space(*rest, at + 1);
	size_t end = skip_value(index, *rest, at);
	*element = (struct span){rest->p + at, end - at};
	end = skip_space(*rest, end);
	*rest = (struct span){rest->p + end, rest->n - end};
	return element->n > 0;
}
