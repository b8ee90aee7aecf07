/* node: see node.h. */
#include "common/config/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/span.h"

/* The tree under construction. `open` is a stack of containers; a mapping alternates between key
 * and value. */
struct builder {
	yaml_parser_t parser;
	struct span bytes;
	struct node *root;
	struct node *open[NODE_DEPTH_MAX];
	char *key[NODE_DEPTH_MAX]; /* read, its value not yet */
	unsigned key_line[NODE_DEPTH_MAX];
	unsigned depth, count, documents;
	struct node_fault *fault;
};

static unsigned line_of(const yaml_event_t *event)
{
	return (unsigned)event->start_mark.line + 1;
}

static int refuse(struct builder *b, unsigned line, const char *problem, const char *remedy)
{
	b->fault->line = line;
	b->fault->remedy = remedy;
	snprintf(b->fault->problem, sizeof(b->fault->problem), "%s", problem);
	return -EINVAL;
}

void node_free(struct node *node)
{
	/* Children first, without recursion: a node's children are put in front of its siblings. */
	while (node) {
		struct node *next = node->next;
		if (node->first) {
			node->last->next = next;
			next = node->first;
		}
		free(node->text);
		free(node->key);
		free(node);
		node = next;
	}
}

/* Put a node where the document is now. Owns `node` from here on, also on error. */
static int attach(struct builder *b, struct node *node)
{
	if (++b->count > NODE_MAX) {
		int error =
		    refuse(b, node->line, "too many values", "nothing here needs that many");
		node_free(node);
		return error;
	}
	if (b->depth == 0) {
		b->root = node;
		return 0;
	}
	struct node *parent = b->open[b->depth - 1];
	if (parent->kind == NODE_MAPPING) {
		node->key = b->key[b->depth - 1];
		node->key_line = b->key_line[b->depth - 1];
		b->key[b->depth - 1] = NULL;
	}
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
	return 0;
}

static struct node *create(enum node_kind kind, const yaml_event_t *event)
{
	struct node *node = calloc(1, sizeof(*node));

	if (node) {
		node->kind = kind;
		node->line = line_of(event);
	}
	return node;
}

static bool expects_key(const struct builder *b)
{
	return b->depth > 0 && b->open[b->depth - 1]->kind == NODE_MAPPING && !b->key[b->depth - 1];
}

/* The spellings of the core schema (YAML 1.2, 10.3.2). */
static bool is_null(const char *text)
{
	static const char *const spellings[] = {"", "~", "null", "Null", "NULL"};

	for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
		if (strcmp(text, spellings[i]) == 0)
			return true;
	}
	return false;
}

static int on_scalar(struct builder *b, const yaml_event_t *event)
{
	const char *value = (const char *)event->data.scalar.value;
	char *text;

	if (event->data.scalar.anchor)
		return refuse(b, line_of(event), "anchors are not supported",
		    "write the value where it is used");
	if (strlen(value) != event->data.scalar.length)
		return refuse(b, line_of(event), "a value holds a NUL character", "remove it");
	text = strdup(value);
	if (!text)
		return -ENOMEM;
	if (expects_key(b)) {
		b->key[b->depth - 1] = text;
		b->key_line[b->depth - 1] = line_of(event);
		return 0;
	}
	struct node *node = create(NODE_SCALAR, event);
	if (!node) {
		free(text);
		return -ENOMEM;
	}
	node->text = text;
	node->empty = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && is_null(text);
	return attach(b, node);
}

static int on_open(struct builder *b, const yaml_event_t *event, enum node_kind kind, bool anchored)
{
	if (anchored)
		return refuse(b, line_of(event), "anchors are not supported",
		    "write the value where it is used");
	if (expects_key(b))
		return refuse(
		    b, line_of(event), "a key is not a plain word", "write keys as plain words");
	if (b->depth == NODE_DEPTH_MAX)
		return refuse(
		    b, line_of(event), "nested too deeply", "nothing here nests that deep");
	struct node *node = create(kind, event);
	if (!node)
		return -ENOMEM;
	int error = attach(b, node);
	if (error)
		return error;
	b->key[b->depth] = NULL;
	b->open[b->depth++] = node;
	return 0;
}

static int on_event(struct builder *b, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (++b->documents > 1)
			return refuse(
			    b, line_of(event), "a second document begins", "remove the `---`");
		return 0;
	case YAML_ALIAS_EVENT:
		return refuse(b, line_of(event), "aliases are not supported",
		    "write the value where it is used");
	case YAML_SCALAR_EVENT:
		return on_scalar(b, event);
	case YAML_SEQUENCE_START_EVENT:
		return on_open(b, event, NODE_LIST, event->data.sequence_start.anchor != NULL);
	case YAML_MAPPING_START_EVENT:
		return on_open(b, event, NODE_MAPPING, event->data.mapping_start.anchor != NULL);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		b->depth--;
		return 0;
	default:
		return 0;
	}
}

static size_t line_at(struct span bytes, size_t offset)
{
	size_t line = 1;

	for (size_t i = 0; i < offset && i < bytes.n; i++)
		line += bytes.p[i] == '\n';
	return line;
}

static int syntax_fault(struct builder *b)
{
	const yaml_parser_t *p = &b->parser;
	char text[160];

	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	size_t line = p->problem_mark.line + 1;
	if (p->error == YAML_READER_ERROR) /* knows the byte only */
		line = line_at(b->bytes, p->problem_offset);
	snprintf(text, sizeof(text), "no valid YAML: %s%s%s",
	    p->problem ? p->problem : "unknown problem", p->context ? " " : "",
	    p->context ? p->context : "");
	return refuse(
	    b, (unsigned)line, text, "check indentation, quotes and brackets near this line");
}

static int build(struct builder *b)
{
	for (bool done = false; !done;) {
		yaml_event_t event;
		if (!yaml_parser_parse(&b->parser, &event))
			return syntax_fault(b);
		done = event.type == YAML_STREAM_END_EVENT;
		int error = on_event(b, &event);
		yaml_event_delete(&event);
		if (error)
			return error;
	}
	return 0;
}

int node_parse(const char *bytes, size_t n, struct node **out, struct node_fault *fault)
{
	struct builder b = {.fault = fault, .bytes = {bytes, n}};

	if (!yaml_parser_initialize(&b.parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)bytes, n);
	int error = build(&b);
	yaml_parser_delete(&b.parser);
	if (error) {
		for (unsigned i = 0; i < b.depth; i++)
			free(b.key[i]);
		node_free(b.root);
		return error;
	}
	*out = b.root;
	return 0;
}
