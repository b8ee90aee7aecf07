/* stdio: the `stdio` mapping of an upstream: a program, how it is shared, and its limits. */
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config/parser.h"
#include "common/config/reference.h"
#include "common/config/schema.h"

enum { TEXTS_MAX = 1024, POOL_MAX = 4096 };

static const char default_path[] = "/usr/local/bin:/usr/bin:/bin";

/* --- the command
 * ------------------------------------------------------------------------------------ */

static bool is_program(const char *path)
{
	struct stat status;

	/* To root any file may seem to be one. */
	return stat(path, &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & 0111) &&
	       access(path, X_OK) == 0;
}

/* The first program of that name in a list of directories. False when there is none. */
static bool find_program(const char *name, const char *directories, char out[PATH_MAX])
{
	while (*directories) {
		size_t n = strcspn(directories, ":");
		/* A relative directory would mean another program in another directory. */
		bool fits = directories[0] == '/' && snprintf(out, PATH_MAX, "%.*s/%s", (int)n,
							 directories, name) < PATH_MAX;
		if (fits && is_program(out))
			return true;
		directories += n + (directories[n] == ':');
	}
	return false;
}

static void take_command(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_stdio *stdio = into;
	const char *path = getenv("PATH");
	char found[PATH_MAX];

	if (!parse_expect(p, node, key, NODE_SCALAR))
		return;
	if (node->text[0] == '/') {
		if (p->defaults->checked || is_program(node->text))
			stdio->command = parse_copy(p, node->text);
		else
			parse_error(p, node->line, key, "name a file that can be executed",
			    "`%.128s` is no program", node->text);
	} else if (node->text[0] == '\0' || strchr(node->text, '/')) {
		parse_error(p, node->line, key, "write an absolute path, or a name in PATH",
		    "`%.128s` depends on the directory", node->text);
	} else if (find_program(node->text, path ? path : default_path, found)) {
		stdio->command = parse_copy(p, found);
	} else if (p->defaults->checked) {
		stdio->command = parse_copy(p, node->text);
	} else {
		parse_error(p, node->line, key, "install it, or write its absolute path",
		    "`%.128s` is not in PATH", node->text);
	}
}

/* --- texts with references
 * -------------------------------------------------------------------------- */

/* An error when a reference leads nowhere. The text itself is kept as it is written. */
static void check_references(
    struct parse *p, const struct node *node, const char *key, const char *text)
{
	struct buffer expanded = {0};
	char why[256];

	if (p->defaults->checked)
		return;
	int error = reference_expand(text, &expanded, why, sizeof(why));
	buffer_release(&expanded);
	if (error == -EINVAL)
		parse_error(p, node->line, key, "mend the reference", "%s", why);
	else if (error)
		parse_error(p, node->line, key, "64 KiB are the most", "is too long");
}

/* A list of texts. */
static void take_list(struct parse *p, const struct node *node, const char *key, bool references,
    char ***rows, size_t *count)
{
	if (!parse_expect(p, node, key, NODE_LIST))
		return;
	for (const struct node *child = node->first; child; child = child->next)
		*count += 1;
	*rows = *count <= TEXTS_MAX ? calloc(*count + 1, sizeof(**rows)) : NULL;
	*count = 0;
	if (!*rows) {
		parse_error(p, node->line, key, "1024 are the most", "has too many entries");
		return;
	}
	for (const struct node *child = node->first; child; child = child->next) {
		/* An empty argument is one, too: in quotes. */
		if (!parse_expect(p, child, key, NODE_SCALAR))
			continue;
		if (references)
			check_references(p, child, key, child->text);
		(*rows)[(*count)++] = parse_copy(p, child->text);
	}
}

static void take_args(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_stdio *stdio = into;

	take_list(p, node, key, true, &stdio->args, &stdio->arg_count);
}

static bool is_variable(const char *text)
{
	return text[0] != '\0' && !strchr(text, '=');
}

static void take_inherit(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_stdio *stdio = into;

	take_list(p, node, key, false, &stdio->inherit, &stdio->inherit_count);
	for (size_t i = 0; i < stdio->inherit_count; i++) {
		if (stdio->inherit[i] && !is_variable(stdio->inherit[i]))
			parse_error(p, node->line, key,
			    "list names, or * for all; `env` sets values",
			    "`%.64s` is no name of a variable", stdio->inherit[i]);
	}
}

static void take_env(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_stdio *stdio = into;
	char name[CONFIG_KEY_MAX];
	size_t count = 0;

	if (!parse_expect(p, node, key, NODE_MAPPING))
		return;
	for (const struct node *child = node->first; child; child = child->next)
		count++;
	stdio->env = count <= TEXTS_MAX ? calloc(count + 1, sizeof(*stdio->env)) : NULL;
	if (!stdio->env) {
		parse_error(p, node->line, key, "1024 are the most", "has too many entries");
		return;
	}
	for (const struct node *child = node->first; child; child = child->next) {
		snprintf(name, sizeof(name), "%s.%s", key, child->key);
		if (parse_is_repeated(p, node, child, name))
			continue;
		if (!is_variable(child->key))
			parse_error(p, child->key_line, name, "choose another name",
			    "is no name of a variable");
		if (!parse_expect(p, child, name, NODE_SCALAR))
			continue;
		check_references(p, child, name, child->text);
		stdio->env[stdio->env_count++] =
		    (struct config_variable){parse_copy(p, child->key), parse_copy(p, child->text)};
	}
}

/* --- sharing
 * ---------------------------------------------------------------------------------------- */

static void take_pool_bound(
    struct parse *p, const struct node *node, const char *key, unsigned *bound)
{
	char *end = NULL;

	if (!parse_expect(p, node, key, NODE_SCALAR))
		return;
	unsigned long value = strtoul(node->text, &end, 10);
	if (node->text[0] < '0' || node->text[0] > '9' || *end || value > POOL_MAX)
		parse_error(p, node->line, key, "write a number from 0 to 4096", "`%.64s` is none",
		    node->text);
	else
		*bound = (unsigned)value;
}

static void take_pool_min(struct parse *p, const struct node *node, const char *key, void *into)
{
	take_pool_bound(p, node, key, &((struct config_stdio *)into)->pool_min);
}

static void take_pool_max(struct parse *p, const struct node *node, const char *key, void *into)
{
	take_pool_bound(p, node, key, &((struct config_stdio *)into)->pool_max);
}

static void take_pool(struct parse *p, const struct node *node, const char *key, void *into)
{
	static const struct field fields[] = {{"min", take_pool_min}, {"max", take_pool_max}};
	struct config_stdio *stdio = into;

	stdio->sharing = CONFIG_POOL;
	stdio->pool_min = 1;
	stdio->pool_max = 10;
	parse_fields(p, node, key, fields, 2, stdio);
	if (stdio->pool_max == 0 || stdio->pool_min > stdio->pool_max)
		parse_error(p, node->line, key, "raise `max` or lower `min`",
		    "has a `min` above its `max`, or no room at all");
}

static void take_sharing(struct parse *p, const struct node *node, const char *key, void *into)
{
	static const struct field fields[] = {{"pool", take_pool}};
	struct config_stdio *stdio = into;

	if (node->kind == NODE_MAPPING && node->first)
		parse_fields(p, node, key, fields, 1, stdio);
	else if (!parse_expect(p, node, key, NODE_SCALAR))
		return;
	else if (strcmp(node->text, "shared") == 0)
		stdio->sharing = CONFIG_SHARED;
	else if (strcmp(node->text, "per_session") != 0)
		parse_error(p, node->line, key,
		    "write per_session, shared, or {pool: {min: 1, max: 10}}",
		    "`%.64s` is no way of sharing", node->text);
}

/* --- settings of the schema
 * ------------------------------------------------------------------------- */

/* Any key that the schema describes by its type alone: found by its end, because an upstream's name
 * stands in its middle. */
static void take_plain(struct parse *p, const struct node *node, const char *key, void *into)
{
	/* Of stdio and sse. */
	static const size_t prefix = sizeof("upstreams.NAME.stdio") - 1;
	size_t n = strlen(key);

	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *row = &settings[i];
		if (row->type == SETTING_STRUCTURE ||
		    strncmp(row->key, SETTING_STDIO, sizeof(SETTING_STDIO) - 1) != 0)
			continue;
		const char *end = row->key + prefix;
		size_t length = strlen(end);
		if (length < n && strcmp(key + n - length, end) == 0) {
			parse_setting(p, node, key, row, into);
			return;
		}
	}
}

static void take_limits(struct parse *p, const struct node *node, const char *key, void *into)
{
	static const struct field fields[] = {{"children", take_plain}, {"memory", take_plain},
	    {"cpu", take_plain}, {"files", take_plain}, {"processes", take_plain},
	    {"line", take_plain}};

	parse_fields(p, node, key, fields, sizeof(fields) / sizeof(fields[0]), into);
}

static void take_restart(struct parse *p, const struct node *node, const char *key, void *into)
{
	static const struct field fields[] = {
	    {"restartable", take_plain}, {"failures", take_plain}, {"delay_max", take_plain}};

	parse_fields(p, node, key, fields, sizeof(fields) / sizeof(fields[0]), into);
}

void parse_stdio(struct parse *p, const struct node *node, const char *key,
    struct config_upstream *u, bool strict)
{
	static const struct field fields[] = {{"command", take_command}, {"args", take_args},
	    {"env", take_env}, {"cwd", take_plain}, {"inherit", take_inherit},
	    {"sharing", take_sharing}, {"limits", take_limits}, {"restart", take_restart},
	    {"handshake_timeout", take_plain}, {"idle_timeout", take_plain}};
	enum { ALL = sizeof(fields) / sizeof(fields[0]), CLIENTS = 4 };
	size_t errors = p->errors->count;
	char missing[CONFIG_KEY_MAX + 16];

	u->kind = CONFIG_STDIO;
	if (setting_defaults(SETTING_STDIO, &u->stdio))
		p->no_memory = true;
	if (strict)
		parse_fields(p, node, key, fields, ALL, &u->stdio);
	else
		parse_known_fields(p, node, key, fields, CLIENTS, &u->stdio);
	snprintf(missing, sizeof(missing), "%s.command", key);
	if (!u->stdio.command && p->errors->count == errors)
		parse_error(p, node->line, missing, "name the program", "is missing");
}

/* --- servers of HTTP+SSE
 * ---------------------------------------------------------------------------- */

static void take_sse_url(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_stdio *stdio = into;

	if (parse_url(p, node, key))
		stdio->url = parse_copy(p, node->text);
}

/* They travel in the child's environment, which others can't read, with references as written. */
static void take_sse_headers(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_stdio *stdio = into;
	struct config_upstream *u = container_of(stdio, struct config_upstream, stdio);
	char text[1024];
	size_t count = 0;

	parse_headers(p, node, key, u);
	if (node->kind != NODE_MAPPING)
		return;
	for (const struct node *child = node->first; child; child = child->next)
		count++;
	stdio->env = calloc(count + 1, sizeof(*stdio->env));
	for (const struct node *child = node->first; child && stdio->env; child = child->next) {
		if (child->kind != NODE_SCALAR)
			continue;
		snprintf(text, sizeof(text), "%s%zu", CONFIG_BRIDGE_HEADER, stdio->env_count);
		struct config_variable *row = &stdio->env[stdio->env_count++];
		row->name = parse_copy(p, text);
		size_t size = strlen(child->key) + strlen(child->text) + 3;
		row->value = malloc(size);
		if (row->value)
			snprintf(row->value, size, "%s: %s", child->key, child->text);
		p->no_memory |= !row->value;
	}
	p->no_memory |= !stdio->env;
}

/* This program, also when its file was replaced meanwhile. */
static char *own_path(struct parse *p)
{
	static const char gone[] = " (deleted)";
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n <= 0)
		return parse_copy(p, "/proc/self/exe");
	path[n] = '\0';
	if ((size_t)n > sizeof(gone) && strcmp(path + n - sizeof(gone) + 1, gone) == 0)
		path[(size_t)n - sizeof(gone) + 1] = '\0';
	return parse_copy(p, path);
}

void parse_sse(struct parse *p, const struct node *node, const char *key, struct config_upstream *u)
{
	static const struct field fields[] = {{"url", take_sse_url}, {"headers", take_sse_headers},
	    {"sharing", take_sharing}, {"limits", take_limits}, {"restart", take_restart},
	    {"handshake_timeout", take_plain}, {"idle_timeout", take_plain}};
	struct config_stdio *stdio = &u->stdio;
	size_t errors = p->errors->count;
	char missing[CONFIG_KEY_MAX + 16];

	u->kind = CONFIG_STDIO;
	if (setting_defaults(SETTING_STDIO, stdio))
		p->no_memory = true;
	parse_fields(p, node, key, fields, sizeof(fields) / sizeof(fields[0]), stdio);
	snprintf(missing, sizeof(missing), "%s.url", key);
	if (!stdio->url && p->errors->count == errors)
		parse_error(p, node->line, missing, parse_url_remedy, "is missing");
	if (!stdio->url)
		return;
	stdio->command = own_path(p);
	stdio->args = calloc(3, sizeof(*stdio->args));
	p->no_memory |= !stdio->args;
	if (stdio->args) {
		stdio->args[stdio->arg_count++] = parse_copy(p, "bridge");
		stdio->args[stdio->arg_count++] = parse_copy(p, stdio->url);
	}
}

/* --- digest
 * ----------------------------------------------------------------------------------------- */

/* Each text with its NUL, so that no two lists give the same bytes. */
static void add_text(EVP_MD_CTX *digest, const char *text)
{
	EVP_DigestUpdate(digest, text ? text : "", strlen(text ? text : "") + 1);
}

static void add_texts(EVP_MD_CTX *digest, char *const *texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		add_text(digest, texts[i]);
	EVP_DigestUpdate(digest, "\1", 1);
}

void config_stdio_digest(const struct config_stdio *stdio, char out[CONFIG_SHA256_TEXT])
{
	unsigned char bytes[EVP_MAX_MD_SIZE] = {0};
	char limits[128];
	EVP_MD_CTX *digest = EVP_MD_CTX_new();

	if (digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL)) {
		add_text(digest, stdio->command);
		add_text(digest, stdio->cwd);
		add_texts(digest, stdio->args, stdio->arg_count);
		add_texts(digest, stdio->inherit, stdio->inherit_count);
		for (size_t i = 0; i < stdio->env_count; i++) {
			add_text(digest, stdio->env[i].name);
			add_text(digest, stdio->env[i].value);
		}
		snprintf(limits, sizeof(limits), "%d %zu %.3f %u %u", (int)stdio->sharing,
		    stdio->memory, stdio->cpu, stdio->files, stdio->processes);
		add_text(digest, limits);
		EVP_DigestFinal_ex(digest, bytes, NULL);
	}
	EVP_MD_CTX_free(digest);
	for (size_t i = 0; i < (CONFIG_SHA256_TEXT - 1) / 2; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}
