/*
 * parser: bytes to a checked config.
 *
 * The document becomes a tree of nodes (node.h); every key is looked up in the schema; what has a
 * shape of its own is taken by a handler; then what is required and missing is noted. All errors
 * come out at once, in the order of lines.
 */
#include "common/config/parser.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config/schema.h"
#include "common/suggest.h"

enum { CONFIG_FILE_MAX = 4 * 1024 * 1024, CANDIDATES_MAX = 64 };

static void take_user(struct parse *p, const struct node *node);
static void take_runtime_dir(struct parse *p, const struct node *node);

/* What is more than its type says. */
static const struct {
	const char *key;
	void (*take)(struct parse *p, const struct node *node);
} structures[] = {
    {"listen", parse_listens},
    {"admin", parse_admin},
    {"upstreams", parse_upstreams},
    {"mcpServers", parse_mcp_servers},
    {"routes", parse_routes},
    {"user", take_user},
    {"runtime_dir", take_runtime_dir},
};

enum { STRUCTURE_COUNT = sizeof(structures) / sizeof(structures[0]) };

void parse_error(
    struct parse *p, unsigned line, const char *key, const char *remedy, const char *problem, ...)
{
	va_list args;

	if (p->errors->count >= CONFIG_ERRORS_MAX)
		return;
	va_start(args, problem);
	if (config_errors_vadd(p->errors, line, key, remedy, problem, args))
		p->no_memory = true;
	va_end(args);
}

void parse_warning(
    struct parse *p, unsigned line, const char *key, const char *remedy, const char *problem, ...)
{
	va_list args;

	va_start(args, problem);
	if (config_errors_vadd(&p->config->warnings, line, key, remedy, problem, args))
		p->no_memory = true;
	va_end(args);
}

char *parse_copy(struct parse *p, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		p->no_memory = true;
	return copy;
}

bool parse_expect(struct parse *p, const struct node *node, const char *key, enum node_kind kind)
{
	static const char *const names[] = {"a single value", "a list", "a mapping"};

	if (node->kind == kind && !node->empty)
		return true;
	if (node->empty) {
		parse_error(
		    p, node->line, key, "write one, or comment the key out", "has no value");
		return false;
	}
	parse_error(p, node->line, key, "see docs/configuration.md", "is %s, not %s",
	    names[node->kind], names[kind]);
	return false;
}

bool parse_is_repeated(
    struct parse *p, const struct node *parent, const struct node *node, const char *key)
{
	unsigned seen = 0;

	for (const struct node *other = parent->first; other != node; other = other->next) {
		if (++seen > CONFIG_ENTRIES_MAX) {
			parse_error(p, node->key_line, key, "nothing here needs that many",
			    "has too many entries");
			return true;
		}
		if (strcmp(other->key, node->key) == 0) {
			parse_error(p, node->key_line, key, "keep one of the two",
			    "is there twice; first in line %u", other->key_line);
			return true;
		}
	}
	return false;
}

static void join(char *out, const char *prefix, const char *key)
{
	snprintf(out, CONFIG_KEY_MAX, "%s%s%s", prefix, prefix[0] ? "." : "", key);
}

static void unknown_key(struct parse *p, const struct node *node, const char *key,
    const char *const *candidates, size_t count)
{
	const char *near = suggest(node->key, candidates, count);
	char remedy[CONFIG_KEY_MAX + 32];

	snprintf(remedy, sizeof(remedy),
	    near ? "did you mean `%s`?" : "remove it; docs/configuration.md lists all keys", near);
	parse_error(p, node->key_line, key, remedy, "is no known key");
}

static void take_fields(struct parse *p, const struct node *node, const char *prefix,
    const struct field *fields, size_t count, void *into, bool strict)
{
	const char *names[CANDIDATES_MAX];
	char key[CONFIG_KEY_MAX];

	if (!parse_expect(p, node, prefix, NODE_MAPPING))
		return;
	for (size_t i = 0; i < count; i++)
		names[i] = fields[i].name;
	for (const struct node *child = node->first; child; child = child->next) {
		size_t i = 0;
		join(key, prefix, child->key);
		while (i < count && strcmp(fields[i].name, child->key) != 0)
			i++;
		if (i < count && !parse_is_repeated(p, node, child, key))
			fields[i].take(p, child, key, into);
		else if (i == count && strict)
			unknown_key(p, child, key, names, count);
	}
}

void parse_fields(struct parse *p, const struct node *node, const char *prefix,
    const struct field *fields, size_t count, void *into)
{
	take_fields(p, node, prefix, fields, count, into, true);
}

void parse_known_fields(struct parse *p, const struct node *node, const char *prefix,
    const struct field *fields, size_t count, void *into)
{
	take_fields(p, node, prefix, fields, count, into, false);
}

static const struct setting *setting_find(const char *key)
{
	for (size_t i = 0; i < setting_count; i++) {
		if (settings[i].type != SETTING_STRUCTURE && strcmp(settings[i].key, key) == 0)
			return &settings[i];
	}
	return NULL;
}

void parse_setting(struct parse *p, const struct node *node, const char *key,
    const struct setting *setting, void *into)
{
	if (!parse_expect(p, node, key, NODE_SCALAR))
		return;
	switch (setting_store(setting, node->text, into)) {
	case 0:
		return;
	case -ENOMEM:
		p->no_memory = true;
		return;
	case -ERANGE:
		parse_error(p, node->line, key, setting_remedy(setting),
		    "`%.64s` is not from %s to %s", node->text, setting->low, setting->high);
		return;
	default:
		parse_error(p, node->line, key, setting_remedy(setting), "`%.64s` is no %s",
		    node->text, setting_type_name(setting->type));
	}
}

/* Who is not root stays who they are. */
static void take_user(struct parse *p, const struct node *node)
{
	const struct config *config = p->config;

	parse_setting(p, node, "user", setting_find("user"), p->config);
	if (config->user && !p->defaults->checked && geteuid() == 0 && !getpwnam(config->user))
		parse_error(p, node->line, "user", "create it, or name another",
		    "`%.64s` is no user of this machine", config->user);
}

/* `line`: where it stands; 0: nowhere, the default is meant. */
static void check_runtime_dir(struct parse *p, unsigned line)
{
	const char *running = p->defaults->running_dir;

	if (running && strcmp(running, p->config->runtime_dir) != 0)
		parse_error(p, line, "runtime_dir",
		    "put the old one back, or stop Margay and start it",
		    "can't change while Margay runs; it is `%.128s`", running);
}

static void take_runtime_dir(struct parse *p, const struct node *node)
{
	size_t errors = p->errors->count;

	parse_setting(p, node, "runtime_dir", setting_find("runtime_dir"), p->config);
	if (p->errors->count == errors)
		check_runtime_dir(p, node->line);
}

/* Names that may follow `prefix`, each once. `names` has room for the text of CANDIDATES_MAX. */
static size_t candidates_after(const char *prefix, char names[][32], const char **out)
{
	size_t length = strlen(prefix), count = 0;

	for (size_t i = 0; i < setting_count && count < CANDIDATES_MAX; i++) {
		const char *key = settings[i].key;
		if (strncmp(key, prefix, length) != 0 || (length > 0 && key[length] != '.'))
			continue;
		key += length > 0 ? length + 1 : 0;
		size_t n = strcspn(key, ".[");
		if (n >= sizeof(names[0]) || (count > 0 && strlen(out[count - 1]) == n &&
						 strncmp(out[count - 1], key, n) == 0))
			continue;
		memcpy(names[count], key, n);
		names[count][n] = '\0';
		out[count] = names[count];
		count++;
	}
	return count;
}

static bool is_section(const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < setting_count; i++) {
		if (settings[i].type != SETTING_STRUCTURE &&
		    strncmp(settings[i].key, key, n) == 0 && settings[i].key[n] == '.')
			return true;
	}
	return false;
}

static bool is_structure(const char *key)
{
	for (size_t i = 0; i < STRUCTURE_COUNT; i++) {
		if (strcmp(structures[i].key, key) == 0)
			return true;
	}
	return false;
}

/* The entries of a section (`timeouts`) or, with an empty prefix, of the document. Never deeper
 * than two. */
static void take_section(struct parse *p, const struct node *node, const char *prefix)
{
	char names[CANDIDATES_MAX][32], key[CONFIG_KEY_MAX];
	const char *candidates[CANDIDATES_MAX];

	if (!parse_expect(p, node, prefix[0] ? prefix : "(document)", NODE_MAPPING))
		return;
	for (const struct node *child = node->first; child; child = child->next) {
		join(key, prefix, child->key);
		/* A dot of the file's own would open a second way to the same value. */
		const struct setting *setting = strchr(child->key, '.') ? NULL : setting_find(key);
		if (!prefix[0] && is_structure(key)) {
			parse_is_repeated(p, node, child, key); /* taken by its handler */
		} else if (setting) {
			if (!parse_is_repeated(p, node, child, key))
				parse_setting(p, child, key, setting, p->config);
		} else if (!prefix[0] && is_section(key)) {
			if (!parse_is_repeated(p, node, child, key))
				take_section(p, child, key);
		} else {
			unknown_key(
			    p, child, key, candidates, candidates_after(prefix, names, candidates));
		}
	}
}

/* What there must be, unless something else stands in for it. */
static void check_required(struct parse *p, const bool present[STRUCTURE_COUNT])
{
	enum { LISTEN, ADMIN, UPSTREAMS, MCP_SERVERS, ROUTES, USER, RUNTIME_DIR };
	const bool missing[STRUCTURE_COUNT] = {
	    [LISTEN] = !present[LISTEN] && !p->defaults->listen && !p->defaults->connected,
	    [UPSTREAMS] = !present[UPSTREAMS] && !present[MCP_SERVERS],
	    [ROUTES] = !present[ROUTES] && !present[MCP_SERVERS],
	};

	for (size_t i = 0; i < STRUCTURE_COUNT; i++) {
		if (missing[i])
			parse_error(p, 0, structures[i].key, "add it; etc/margay.yaml shows how",
			    "is missing");
	}
	if (!present[LISTEN] && p->defaults->listen)
		parse_default_listen(p);
	if (!present[RUNTIME_DIR])
		check_runtime_dir(p, 0);
}

static void take_structures(struct parse *p, const struct node *root)
{
	struct config *config = p->config;
	bool present[STRUCTURE_COUNT] = {false};

	config->upstreams = calloc(CONFIG_UPSTREAMS_MAX, sizeof(*config->upstreams));
	config->routes = calloc(CONFIG_ROUTES_MAX, sizeof(*config->routes));
	if (!config->upstreams || !config->routes) {
		p->no_memory = true;
		return;
	}
	for (size_t i = 0; i < STRUCTURE_COUNT; i++) {
		const struct node *node = root->first;
		while (node && strcmp(node->key, structures[i].key) != 0)
			node = node->next;
		present[i] = node != NULL;
		if (node)
			structures[i].take(p, node);
	}
	check_required(p, present);
	config->connected = p->defaults->connected;
}

static int compare_errors(const void *a, const void *b)
{
	unsigned left = ((const struct config_error *)a)->line,
		 right = ((const struct config_error *)b)->line;

	return left < right ? -1 : left > right;
}

static void take_document(struct parse *p, const char *bytes, size_t n)
{
	struct node *root = NULL;
	struct node_fault fault;

	int error = n > CONFIG_FILE_MAX ? -EFBIG : node_parse(bytes, n, &root, &fault);
	if (error == -EFBIG)
		parse_error(p, 0, "(document)", "4 MiB are the most", "is too long");
	else if (error == -EINVAL)
		parse_error(p, fault.line, "(document)", fault.remedy, "%s", fault.problem);
	else if (error)
		p->no_memory = true;
	else if (!root)
		parse_error(p, 0, "(document)", "etc/margay.yaml is a start", "is empty");
	if (!root)
		return;
	take_section(p, root, "");
	if (root->kind == NODE_MAPPING)
		take_structures(p, root);
	node_free(root);
}

int config_parse(struct span bytes, const struct config_defaults *defaults, struct config **out,
    struct config_errors *errors)
{
	static const struct config_defaults none = {0};
	struct config *config = calloc(1, sizeof(*config));
	struct parse p = {
	    .config = config, .defaults = defaults ? defaults : &none, .errors = errors};

	*errors = (struct config_errors){0};
	if (!config)
		return -ENOMEM;
	p.no_memory = setting_defaults("", config) != 0;
	if (!p.no_memory && p.defaults->runtime_dir) {
		free(config->runtime_dir);
		config->runtime_dir = parse_copy(&p, p.defaults->runtime_dir);
	}
	if (p.defaults->quiet) {
		config->log.level = LOG_LEVEL_WARN;
		config->log.format = LOG_FORMAT_TEXT;
		config->log.access = false;
		config->orphan_timeout = 0;
	}
	if (p.defaults->checked)
		bytes = parse_outside_split(&p, bytes);
	if (!p.no_memory)
		take_document(&p, bytes.p, bytes.n);
	if (!p.no_memory && errors->count == 0) {
		*out = config;
		return 0;
	}
	config_free(config);
	if (p.no_memory) {
		config_errors_free(errors);
		return -ENOMEM;
	}
	qsort(errors->rows, errors->count, sizeof(*errors->rows), compare_errors);
	return -EINVAL;
}

char *config_runtime_dir(struct span bytes)
{
	struct node *root = NULL;
	struct node_fault fault;
	char *dir = NULL;

	if (node_parse(bytes.p, bytes.n, &root, &fault) || !root)
		return NULL;
	const struct node *node = root->kind == NODE_MAPPING ? root->first : NULL;
	while (node && strcmp(node->key, "runtime_dir") != 0)
		node = node->next;
	if (node && node->kind == NODE_SCALAR)
		dir = strdup(node->text);
	else if (!node && root->kind == NODE_MAPPING)
		dir = strdup(setting_find("runtime_dir")->value);
	node_free(root);
	return dir;
}

int config_read(const char *path, bool again, struct buffer *out)
{
	char block[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC | (again ? O_NONBLOCK : 0)), error = 0;
	struct stat status;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (again && (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))) {
		close(fd);
		return -ESPIPE;
	}
	while ((n = read(fd, block, sizeof(block))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		/* One byte more than is allowed, so that the parser can say that it is too long. */
		error = n < 0
			    ? -errno
			    : buffer_append(out, block, (size_t)n, CONFIG_FILE_MAX + sizeof(block));
		if (error)
			break;
	}
	close(fd);
	return error == -EMSGSIZE ? 0 : error;
}
