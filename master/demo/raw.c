/* raw: see raw.h. One pass over the bytes, strings skipped as wholes, depth counted by brackets. */
#include "master/demo/raw.h"

#include <stddef.h>

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
	for (at++; at < s.n && s.p[at] != '"'; at++)
		if (s.p[at] == '\\')
			at++;
	return at < s.n ? at + 1 : s.n;
}

static size_t skip_value(struct span s, size_t at)
{
	size_t depth = 0;

	while (at < s.n) {
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

bool raw_member(struct span object, const char *key, struct span *value)
{
	struct span wanted = span_of(key);
	size_t at = skip_space(object, 0);

	if (at >= object.n || object.p[at] != '{')
		return false;
	at = skip_space(object, at + 1);
	while (at < object.n && object.p[at] == '"') {
		size_t end = skip_string(object, at);
		struct span name = {object.p + at + 1, end - at >= 2 ? end - at - 2 : 0};

		at = skip_space(object, end);
		if (at >= object.n || object.p[at] != ':')
			return false;
		at = skip_space(object, at + 1);
		end = skip_value(object, at);
		if (span_equal(name, wanted)) {
			*value = (struct span){object.p + at, end - at};
			return value->n > 0;
		}
		at = skip_space(object, end);
		if (at >= object.n || object.p[at] != ',')
			return false;
		at = skip_space(object, at + 1);
	}
	return false;
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

bool raw_next(struct span *rest, struct span *element)
{
	size_t at = skip_space(*rest, 0);

	if (at >= rest->n || (rest->p[at] != '[' && rest->p[at] != ','))
		return false;
	at = skip_space(*rest, at + 1);
	size_t end = skip_value(*rest, at);
	*element = (struct span){rest->p + at, end - at};
	end = skip_space(*rest, end);
	*rest = (struct span){rest->p + end, rest->n - end};
	return element->n > 0;
}
