/*
 * node: a YAML document as a bounded tree that remembers its lines.
 *
 * Built from libyaml's events, so that every later error can name its place. Anchors and aliases
 * are refused: a configuration should say what it means where it means it, and a tree without them
 * is as small as its text.
 */
#ifndef MARGAY_COMMON_CONFIG_NODE_H
#define MARGAY_COMMON_CONFIG_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/attributes.h"

enum { NODE_MAX = 65536, NODE_DEPTH_MAX = 32 };

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAPPING };

struct node {
	enum node_kind kind;
	unsigned line; /* 1-based */
	bool empty;    /* a scalar that YAML reads as null: nothing, `~` or `null`, not quoted */
	char *text;    /* of a scalar; NUL-terminated, holds no other NUL */
	char *key;     /* when it is the value of a mapping's entry */
	unsigned key_line;
	struct node *first, *last; /* children */
	struct node *next;
};

struct node_fault {
	unsigned line;
	char problem[160];
	const char *remedy; /* literal */
};

/* 0 with *out set (NULL for an empty document), -EINVAL with *fault, or -ENOMEM. */
int node_parse(const char *bytes, size_t n, struct node **out, struct node_fault *fault) MUST_CHECK;
void node_free(struct node *node);

#endif
