/*
 * parser: what the parts of the configuration parser share. Only for common/config/.
 */
#ifndef MARGAY_COMMON_CONFIG_PARSER_H
#define MARGAY_COMMON_CONFIG_PARSER_H

#include "common/config/config.h"
#include "common/config/node.h"

enum { CONFIG_KEY_MAX = 256, CONFIG_ERRORS_MAX = 200, CONFIG_ENTRIES_MAX = 1024 };

/* A parse under way. Errors are collected; running out of memory ends it. */
struct parse {
	struct config *config;
	const struct config_defaults *defaults; /* never NULL */
	struct config_errors *errors;
	bool no_memory;
};

/* One key of a small mapping and what takes its value. `into` is what the mapping describes. */
struct field {
	const char *name;
	void (*take)(struct parse *p, const struct node *node, const char *key, void *into);
};

/* Note one error; `problem` is a format. Beyond CONFIG_ERRORS_MAX they are not kept. */
void parse_error(struct parse *p, unsigned line, const char *key, const char *remedy,
    const char *problem, ...) PRINTF_LIKE(5, 6);
/* Note something that is no error. */
void parse_warning(struct parse *p, unsigned line, const char *key, const char *remedy,
    const char *problem, ...) PRINTF_LIKE(5, 6);
/* Hand each entry of a mapping to its field; unknown and repeated keys are errors. */
void parse_fields(struct parse *p, const struct node *node, const char *prefix,
    const struct field *fields, size_t count, void *into);
/* The same, but other keys are left alone: for what is read as other programs write it. */
void parse_known_fields(struct parse *p, const struct node *node, const char *prefix,
    const struct field *fields, size_t count, void *into);
struct setting;
/* A value that the schema describes by its type alone; `into` holds the setting's offset. */
void parse_setting(struct parse *p, const struct node *node, const char *key,
    const struct setting *setting, void *into);
/* An error unless the node is of that kind. */
bool parse_expect(struct parse *p, const struct node *node, const char *key, enum node_kind kind);
/* An error when an earlier sibling has the same key. */
bool parse_is_repeated(
    struct parse *p, const struct node *parent, const struct node *node, const char *key);
char *parse_copy(struct parse *p, const char *text);
/* A text that was read for `key` from outside of the file. */
void parse_outside_keep(struct parse *p, const char *key, struct span text);
/* The one that was kept; NULL: none was. For bytes that passed their check before. */
const char *parse_outside(const struct parse *p, const char *key);
/* Take what is behind the bytes of the file; those without it. */
struct span parse_outside_split(struct parse *p, struct span bytes);

/* The structures: listeners.c, tls.c, upstreams.c, stdio.c. */
void parse_listens(struct parse *p, const struct node *node);
void parse_admin(struct parse *p, const struct node *node);
void parse_upstreams(struct parse *p, const struct node *node);
void parse_mcp_servers(struct parse *p, const struct node *node);
/* After parse_upstreams and parse_mcp_servers. */
void parse_routes(struct parse *p, const struct node *node);
void parse_tls(struct parse *p, const struct node *node, const char *key, void *listen);
/* The listener that `defaults` names. */
void parse_default_listen(struct parse *p);
/* An error unless it is the URL of an upstream; and what would be right. */
bool parse_url(struct parse *p, const struct node *node, const char *key);
extern const char parse_url_remedy[];
/* Header fields of an upstream; into `headers`, with their references resolved. */
void parse_headers(struct parse *p, const struct node *node, const char *key, void *upstream);
/* A server of HTTP+SSE: a child of our own that speaks to it. */
void parse_sse(
    struct parse *p, const struct node *node, const char *key, struct config_upstream *u);
/* Not strict: as desktop clients write it, with keys of their own. */
void parse_stdio(struct parse *p, const struct node *node, const char *key,
    struct config_upstream *u, bool strict);

#endif
