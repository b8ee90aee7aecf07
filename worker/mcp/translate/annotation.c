/* annotation: see translate.h. The chain of `properties` is walked to a bounded depth; an
 * annotation anywhere else does not exist for us (2026-07-28, streamable HTTP). */
#include <stdlib.h>
#include <strings.h>

#include "common/raw.h"
#include "worker/mcp/translate/translate.h"

static bool is_token(struct span name)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		if (!letter && !(c >= '0' && c <= '9') && (!c || !strchr(others, c)))
			return false;
	}
	return name.n > 0 && name.n <= ANNOTATION_NAME_MAX;
}

/* Values that a header can hold. */
static bool is_scalar(struct span property)
{
	static const struct span types[] = {
	    {"\"string\"", 8}, {"\"integer\"", 9}, {"\"boolean\"", 9}, {"\"number\"", 8}};
	struct span type;

	if (!raw_member(property, "type", &type))
		return false;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (span_equal(type, types[i]))
			return true;
	}
	return false;
}

static bool is_new(const struct annotations *a, struct span name)
{
	for (unsigned i = 0; i < a->count; i++) {
		if (span_equal_nocase(a->rows[i].name, name))
			return false;
	}
	return true;
}

/* False when the annotation of this property is not as it must be. */
static bool take(
    struct annotations *a, struct span property, const struct span *path, unsigned depth)
{
	struct span mark;

	if (!raw_member(property, "x-mcp-header", &mark))
		return true;
	if (mark.n < 2 || mark.p[0] != '"' || a->count == ANNOTATIONS_MAX)
		return false;
	struct span name = {mark.p + 1, mark.n - 2};
	if (!is_token(name) || !is_scalar(property) || !is_new(a, name))
		return false;
	struct annotation *row = &a->rows[a->count++];
	row->name = name;
	row->depth = depth;
	for (unsigned i = 0; i < depth; i++)
		row->path[i] = path[i];
	return true;
}

static bool walk(struct annotations *a, struct span schema, struct span *path, unsigned depth)
{
	struct span properties, property;

	if (depth == ANNOTATION_DEPTH_MAX || !raw_object(schema, "properties", &properties))
		return true;
	while (raw_next_member(&properties, &path[depth], &property)) {
		if (property.p[0] == '{' &&
		    (!take(a, property, path, depth + 1) || !walk(a, property, path, depth + 1)))
			return false;
	}
	return true;
}

bool annotations_of(struct span tool, struct annotations *out)
{
	struct span schema, path[ANNOTATION_DEPTH_MAX];

	out->count = 0;
	return !raw_object(tool, "inputSchema", &schema) || walk(out, schema, path, 0);
}

struct span annotation_value(const struct annotation *row, const struct envelope *e)
{
	struct span value = envelope_member(e, e->params, "arguments"), key, found;

	for (unsigned i = 0; i < row->depth; i++) {
		bool there = false;
		struct span rest = value;
		while (!there && rest.n > 0 && rest.p[0] != '[' &&
		       raw_next_member_in(&e->index, &rest, &key, &found))
			there = span_equal(key, row->path[i]);
		if (!there)
			return (struct span){0};
		value = found;
	}
	return span_equal(value, SPAN("null")) ? (struct span){0} : value;
}
