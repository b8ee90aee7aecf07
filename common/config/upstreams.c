/* upstreams: the `upstreams`, `mcpServers` and `routes` mappings, and what a URL must look like. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/address.h"
#include "common/config/parser.h"
#include "common/config/reference.h"
#include "common/span.h"
#include "common/suggest.h"

enum {
	HEADERS_MAX = 64 * 1024,
	NAME_MAX_LENGTH = 64,
	PATH_MAX_LENGTH = 127,
	URL_MAX_LENGTH = 2048,
	HOST_MAX_LENGTH = 253
};

const char parse_url_remedy[] = "write http://HOST[:PORT]/PATH";

static const char reserved_name[] = "other";

static bool is_name(const char *text)
{
	size_t n =
	    strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n > 0 && n <= NAME_MAX_LENGTH && text[n] == '\0';
}

static bool is_path(const char *text)
{
	if (text[0] != '/' || strlen(text) > PATH_MAX_LENGTH)
		return false;
	for (const char *p = text; *p; p++) {
		if (*p <= 0x20 || *p >= 0x7f || strchr("?#\\\"", *p))
			return false;
	}
	return true;
}

/* An IPv6 address without its brackets. */
static bool is_ip6(const char *p, size_t n)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (n >= sizeof(text))
		return false;
	memcpy(text, p, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &address) == 1;
}

/* A name or an IPv4 address. What a name means is for the resolver to say. */
static bool is_host_name(const char *p, size_t n)
{
	if (n == 0 || n > HOST_MAX_LENGTH)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)p[i]) && !strchr(".-_", p[i]))
			return false;
	}
	return true;
}

static const char *url_problem(const char *url)
{
	if (strlen(url) > URL_MAX_LENGTH)
		return "is too long";
	for (const char *p = url; *p; p++) {
		if (*p <= 0x20 || *p >= 0x7f)
			return "holds a character that must be percent-encoded";
	}
	if (strncmp(url, "https://", 8) == 0)
		return "uses https, which upstreams can't use yet";
	if (strncmp(url, "http://", 7) != 0)
		return "does not begin with http://";
	size_t authority = strcspn(url + 7, "/?#");
	if (memchr(url + 7, '@', authority))
		return "holds a user name or password, which does not belong there";
	if (strchr(url, '#'))
		return "holds a fragment, which no server sees";
	return NULL;
}

/* Lower-case copy of n bytes. */
static char *copy_lower(struct parse *p, const char *text, size_t n)
{
	char *copy = strndup(text, n);

	if (!copy)
		p->no_memory = true;
	for (char *c = copy; c && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return copy;
}

/* HOST[:PORT], n bytes. False when either is not valid; without a port it is 80. */
static bool split_authority(const char *p, size_t n, struct span *host, uint16_t *port)
{
	bool bracketed = n > 0 && p[0] == '[';
	const char *end = memchr(p, bracketed ? ']' : ':', n);
	char digits[sizeof("65535")];

	if (bracketed && !end)
		return false;
	if (!end)
		end = p + n;
	*host = (struct span){p + bracketed, (size_t)(end - p) - bracketed};
	if (bracketed ? !is_ip6(host->p, host->n) : !is_host_name(host->p, host->n))
		return false;
	end += bracketed;
	size_t left = (size_t)(p + n - end);
	*port = 80;
	if (left == 0)
		return true;
	if (*end != ':' || left > sizeof(digits))
		return false;
	memcpy(digits, end + 1, left - 1);
	digits[left - 1] = '\0';
	return address_port_parse(digits, port) == 0;
}

static void split_url(
    struct parse *p, const struct node *node, const char *key, struct config_upstream *u)
{
	const char *authority = node->text + 7;
	size_t n = strcspn(authority, "/?");
	const char *rest = authority + n;
	struct span host;

	if (!split_authority(authority, n, &host, &u->port)) {
		parse_error(p, node->line, key, parse_url_remedy,
		    "`%.128s` has no valid host and port", node->text);
		return;
	}
	u->url = parse_copy(p, node->text);
	u->authority = copy_lower(p, authority, n);
	u->host = copy_lower(p, host.p, host.n);
	size_t size = strlen(rest) + 2;
	u->target = malloc(size);
	if (u->target)
		snprintf(u->target, size, "%s%s", rest[0] == '/' ? "" : "/", rest);
	else
		p->no_memory = true;
}

bool parse_url(struct parse *p, const struct node *node, const char *key)
{
	if (!parse_expect(p, node, key, NODE_SCALAR))
		return false;
	const char *problem = url_problem(node->text);
	if (problem)
		parse_error(
		    p, node->line, key, parse_url_remedy, "`%.128s` %s", node->text, problem);
	return !problem;
}

static void take_url(struct parse *p, const struct node *node, const char *key, void *into)
{
	if (parse_url(p, node, key))
		split_url(p, node, key, into);
}

static bool is_token(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	return n > 0 && n <= NAME_MAX_LENGTH && text[n] == '\0';
}

/* Fields that Margay writes itself, or that would break the framing. */
static bool is_reserved(const char *name)
{
	static const char *const reserved[] = {"host", "content-length", "content-type",
	    "transfer-encoding", "connection", "accept", "mcp-session-id", "mcp-protocol-version"};

	for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
		if (strcasecmp(name, reserved[i]) == 0)
			return true;
	}
	return false;
}

/* The value of a header with its references resolved; once, for all who parse these bytes later. */
static int header_value(struct parse *p, const struct node *node, const char *key,
    struct buffer *out, char *why, size_t size)
{
	bool refers = strstr(node->text, "${") != NULL;

	if (refers && p->defaults->checked) {
		const char *kept = parse_outside(p, key);
		return buffer_append(out, kept ? kept : "", kept ? strlen(kept) : 0, REFERENCE_MAX);
	}
	int error = reference_expand(node->text, out, why, size);
	if (refers && !error)
		parse_outside_keep(p, key, buffer_span(out));
	return error;
}

static void take_header(
    struct parse *p, const struct node *node, const char *key, struct buffer *lines)
{
	struct buffer value = {0};
	char why[256] = "is too long";

	if (!is_token(node->key) || is_reserved(node->key)) {
		parse_error(
		    p, node->key_line, key, "remove it", "is no header field that can be set here");
		return;
	}
	if (!parse_expect(p, node, key, NODE_SCALAR))
		return;
	int error = header_value(p, node, key, &value, why, sizeof(why));
	struct span text = buffer_span(&value);
	for (size_t i = 0; !error && i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		if ((c < 0x20 && c != '\t') || c >= 0x7f) {
			snprintf(why, sizeof(why), "holds a character that no header may hold");
			error = -EINVAL;
		}
	}
	if (!error)
		error = buffer_printf(
		    lines, HEADERS_MAX, "%s: %.*s\r\n", node->key, (int)text.n, text.p);
	if (error == -ENOMEM)
		p->no_memory = true;
	else if (error)
		parse_error(
		    p, node->line, key, "write visible ASCII, or mend the reference", "%s", why);
	buffer_release(&value);
}

void parse_headers(struct parse *p, const struct node *node, const char *key, void *upstream)
{
	struct config_upstream *u = upstream;
	struct buffer lines = {0};
	char name[CONFIG_KEY_MAX];

	if (!parse_expect(p, node, key, NODE_MAPPING))
		return;
	for (const struct node *child = node->first; child; child = child->next) {
		snprintf(name, sizeof(name), "%s.%s", key, child->key);
		if (!parse_is_repeated(p, node, child, name))
			take_header(p, child, name, &lines);
	}
	struct span all = buffer_span(&lines);
	u->headers = strndup(all.p, all.n);
	if (!u->headers)
		p->no_memory = true;
	buffer_release(&lines);
}

static const struct field http_fields[] = {{"url", take_url}, {"headers", parse_headers}};

static void take_http(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_upstream *u = into;
	size_t errors = p->errors->count;
	char missing[CONFIG_KEY_MAX + 8];

	parse_fields(p, node, key, http_fields, 2, u);
	snprintf(missing, sizeof(missing), "%s.url", key);
	if (!u->url && p->errors->count == errors)
		parse_error(p, node->line, missing, parse_url_remedy, "is missing");
}

static void take_stdio(struct parse *p, const struct node *node, const char *key, void *into)
{
	parse_stdio(p, node, key, into, true);
}

static void take_sse(struct parse *p, const struct node *node, const char *key, void *into)
{
	parse_sse(p, node, key, into);
}

/* Room for one more, with its name. NULL when an error was noted. */
static struct config_upstream *add_upstream(
    struct parse *p, const struct node *node, const char *key)
{
	struct config *config = p->config;

	for (size_t i = 0; i < config->upstream_count; i++) {
		if (config->upstreams[i].name &&
		    strcmp(config->upstreams[i].name, node->key) == 0) {
			parse_error(p, node->key_line, key, "choose another name",
			    "is an upstream already; first in line %u", config->upstreams[i].line);
			return NULL;
		}
	}
	if (config->upstream_count == CONFIG_UPSTREAMS_MAX) {
		parse_error(p, node->key_line, key, "256 are the most", "is one upstream too many");
		return NULL;
	}
	if (!is_name(node->key))
		parse_error(p, node->key_line, key, "use up to 64 of a-z, A-Z, 0-9, `.`, `_`, `-`",
		    "is no name for an upstream");
	if (strcmp(node->key, reserved_name) == 0)
		parse_error(p, node->key_line, key, "choose another name",
		    "is what metrics call upstreams that they have no room for");
	struct config_upstream *u = &config->upstreams[config->upstream_count++];
	u->name = parse_copy(p, node->key);
	u->line = node->key_line;
	return u;
}

static void take_upstream(struct parse *p, const struct node *node, const char *key)
{
	static const struct field fields[] = {
	    {"http", take_http}, {"stdio", take_stdio}, {"sse", take_sse}};
	size_t errors = p->errors->count;
	struct config_upstream *u = add_upstream(p, node, key);

	if (!u)
		return;
	parse_fields(p, node, key, fields, 3, u);
	if (node->kind == NODE_MAPPING && node->first && node->first->next &&
	    p->errors->count == errors)
		parse_error(p, node->key_line, key, "keep one of `http`, `stdio` and `sse`",
		    "is reached in two ways at once");
	else if (!u->url && u->kind != CONFIG_STDIO && p->errors->count == errors)
		parse_error(p, node->key_line, key,
		    "add `http: {url: ...}`, `stdio: {command: ...}` or `sse: {url: ...}`",
		    "does not say how to reach it");
}

/* Entries of a mapping, each with a key of its own; `take` gets room for all. */
static void take_entries(struct parse *p, const struct node *node, const char *prefix, size_t max,
    const char *example, void (*take)(struct parse *p, const struct node *node, const char *key))
{
	char key[CONFIG_KEY_MAX];
	size_t count = 0;

	for (const struct node *child = node->first; child; child = child->next) {
		snprintf(key, sizeof(key), "%s.%s", prefix, child->key);
		if (parse_is_repeated(p, node, child, key))
			continue;
		if (count++ == max) {
			parse_error(
			    p, child->key_line, prefix, "256 are the most", "has too many entries");
			return;
		}
		take(p, child, key);
	}
	if (count == 0)
		parse_error(p, node->line, prefix, example, "is empty");
}

void parse_upstreams(struct parse *p, const struct node *node)
{
	if (!parse_expect(p, node, "upstreams", NODE_MAPPING))
		return;
	take_entries(p, node, "upstreams", CONFIG_UPSTREAMS_MAX, "add `NAME: {http: {url: ...}}`",
	    take_upstream);
}

/* --- mcpServers
 * ------------------------------------------------------------------------------------- */

static const struct node *member(const struct node *node, const char *key)
{
	const struct node *child = node->kind == NODE_MAPPING ? node->first : NULL;

	while (child && strcmp(child->key, key) != 0)
		child = child->next;
	return child;
}

static void add_route(struct parse *p, const struct node *node, size_t upstream)
{
	struct config *config = p->config;
	char path[PATH_MAX_LENGTH + 1];

	if (config->route_count == CONFIG_ROUTES_MAX)
		return; /* as many as upstreams, whose number was refused */
	snprintf(path, sizeof(path), "/%.100s/mcp", node->key);
	if (!is_path(path))
		return; /* nor is it a name, which was said */
	config->routes[config->route_count++] =
	    (struct config_route){.path = parse_copy(p, path), .upstream = upstream};
}

static void take_mcp_server(struct parse *p, const struct node *node, const char *key)
{
	const struct node *disabled = member(node, "disabled");

	if (!parse_expect(p, node, key, NODE_MAPPING) ||
	    (disabled && disabled->kind == NODE_SCALAR && strcmp(disabled->text, "true") == 0))
		return;
	struct config_upstream *u = add_upstream(p, node, key);
	if (!u)
		return;
	add_route(p, node, p->config->upstream_count - 1);
	if (member(node, "command"))
		parse_stdio(p, node, key, u, false);
	else if (member(node, "url"))
		parse_known_fields(p, node, key, http_fields, 2, u);
	else
		parse_error(p, node->key_line, key, "add `command` or `url`",
		    "does not say how to reach it");
}

void parse_mcp_servers(struct parse *p, const struct node *node)
{
	if (!parse_expect(p, node, "mcpServers", NODE_MAPPING))
		return;
	take_entries(p, node, "mcpServers", CONFIG_UPSTREAMS_MAX,
	    "add `NAME: {command: ..., args: [...]}`", take_mcp_server);
}

static void take_route_upstream(
    struct parse *p, const struct node *node, const char *key, void *into)
{
	const struct config *config = p->config;
	struct config_route *route = into;
	const char *names[CONFIG_UPSTREAMS_MAX];
	char remedy[128];

	/* Without upstreams the mistake is there, not in every route. */
	if (!parse_expect(p, node, key, NODE_SCALAR) || config->upstream_count == 0)
		return;
	for (size_t i = 0; i < config->upstream_count; i++) {
		names[i] = config->upstreams[i].name ? config->upstreams[i].name : "";
		if (strcmp(names[i], node->text) == 0) {
			route->upstream = i;
			return;
		}
	}
	const char *near = suggest(node->text, names, config->upstream_count);
	snprintf(
	    remedy, sizeof(remedy), near ? "did you mean `%s`?" : "name one of `upstreams`", near);
	parse_error(p, node->line, key, remedy, "`%.64s` is no upstream", node->text);
}

static void take_http_sse(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_route *route = into;

	if (!parse_expect(p, node, key, NODE_SCALAR))
		return;
	route->http_sse = strcmp(node->text, "true") == 0;
	if (!route->http_sse && strcmp(node->text, "false") != 0)
		parse_error(
		    p, node->line, key, "write true or false", "`%.64s` is neither", node->text);
}

static void take_route(struct parse *p, const struct node *node, const char *key)
{
	static const struct field fields[] = {
	    {"upstream", take_route_upstream}, {"http_sse", take_http_sse}};
	struct config *config = p->config;
	char missing[CONFIG_KEY_MAX + 16];

	for (size_t i = 0; i < config->route_count; i++) {
		if (config->routes[i].path && strcmp(config->routes[i].path, node->key) == 0) {
			parse_error(p, node->key_line, key, "choose another path",
			    "is the route of an entry of mcpServers");
			return;
		}
	}
	if (config->route_count == CONFIG_ROUTES_MAX) {
		parse_error(p, node->key_line, key, "256 are the most", "is one route too many");
		return;
	}
	struct config_route *route = &config->routes[config->route_count++];

	route->path = parse_copy(p, node->key);
	if (!is_path(node->key))
		parse_error(p, node->key_line, key,
		    "begin with /, use visible ASCII without ? and #, at most 127 characters",
		    "is no path");
	snprintf(missing, sizeof(missing), "%s.upstream", key);
	if (node->kind == NODE_MAPPING && !node->first)
		parse_error(p, node->line, missing, "name one of `upstreams`", "is missing");
	parse_fields(p, node, key, fields, 2, route);
}

void parse_routes(struct parse *p, const struct node *node)
{
	if (!parse_expect(p, node, "routes", NODE_MAPPING))
		return;
	take_entries(
	    p, node, "routes", CONFIG_ROUTES_MAX, "add `/mcp: {upstream: NAME}`", take_route);
}
