/* listeners: the `listen` list and the `admin` mapping. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/address.h"
#include "common/config/parser.h"

static bool is_host_character(unsigned char c)
{
	return c > 0x20 && c < 0x7f && !strchr("/?#@\\\"", c);
}

/* `*` alone is any; within a name it would match nothing, for values compare whole. */
static bool is_host(const char *text)
{
	if (strchr(text, '*'))
		return strcmp(text, "*") == 0;
	for (const char *p = text; *p; p++) {
		if (!is_host_character((unsigned char)*p))
			return false;
	}
	return text[0] != '\0';
}

static bool is_origin(const char *text)
{
	const char *host = strstr(text, "://");

	if (strcmp(text, "*") == 0)
		return true;
	return host && host > text &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") ==
		   (size_t)(host - text) &&
	       host[3] != '*' && is_host(host + 3);
}

/* A list of texts that all pass `valid`. */
static void take_texts(struct parse *p, const struct node *node, const char *key,
    bool (*valid)(const char *), const char *remedy, char ***rows, size_t *count)
{
	if (!parse_expect(p, node, key, NODE_LIST))
		return;
	for (const struct node *child = node->first; child; child = child->next) {
		if (!parse_expect(p, child, key, NODE_SCALAR))
			continue;
		if (!valid(child->text)) {
			parse_error(
			    p, child->line, key, remedy, "`%.64s` is not valid here", child->text);
			continue;
		}
		char **more = realloc(*rows, (*count + 1) * sizeof(*more));
		if (!more) {
			p->no_memory = true;
			return;
		}
		*rows = more;
		more[(*count)++] = parse_copy(p, child->text);
	}
}

static void take_hosts(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_listen *listen = into;

	take_texts(p, node, key, is_host, "write HOST or HOST:PORT, or * for any", &listen->hosts,
	    &listen->host_count);
}

static void take_origins(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_listen *listen = into;

	take_texts(p, node, key, is_origin, "write SCHEME://HOST[:PORT], or * for any",
	    &listen->origins, &listen->origin_count);
}

/* An error when an earlier listener has this address, or one of the two is `*` with the same port:
 * the second could not be bound. */
static void check_unique(
    struct parse *p, const struct node *node, const char *key, const struct config_listen *listen)
{
	const struct config *config = p->config;

	for (size_t i = 0; i < config->listen_count; i++) {
		const struct config_listen *other = &config->listens[i];
		if (other == listen || !other->address.text)
			continue;
		if (address_equal(&other->address.storage, &listen->address.storage))
			parse_error(p, node->line, key, "give each listener an address of its own",
			    "`%s` is there twice", node->text);
		else if (address_overlap(&other->address.storage, &listen->address.storage))
			parse_error(p, node->line, key,
			    "keep the one for all addresses, or use another port",
			    "`%s` and `%s` cover each other", node->text, other->address.text);
	}
}

static void take_address(struct parse *p, const struct node *node, const char *key, void *into)
{
	struct config_address *address = &((struct config_listen *)into)->address;

	if (!parse_expect(p, node, key, NODE_SCALAR))
		return;
	if (address_parse(node->text, &address->storage, &address->length)) {
		parse_error(p, node->line, key,
		    "write HOST:PORT with an IPv4 address, an IPv6 address in brackets, localhost "
		    "or *, and a port from 1 to 65535",
		    "`%.64s` is no address", node->text);
		return;
	}
	check_unique(p, node, key, into);
	address->text = parse_copy(p, node->text);
	address->line = node->line;
	snprintf(address->key, sizeof(address->key), "%s", key);
}

static const struct field fields[] = {{"address", take_address}, {"hosts", take_hosts},
    {"origins", take_origins}, {"tls", parse_tls}};

static void take_listen(
    struct parse *p, const struct node *node, const char *prefix, struct config_listen *listen)
{
	char key[CONFIG_KEY_MAX];
	size_t errors = p->errors->count;

	parse_fields(p, node, prefix, fields, sizeof(fields) / sizeof(fields[0]), listen);
	snprintf(key, sizeof(key), "%s.address", prefix);
	if (!listen->address.text && p->errors->count == errors)
		parse_error(p, node->line, key, "add it, as in 127.0.0.1:8080", "is missing");
}

void parse_listens(struct parse *p, const struct node *node)
{
	struct config *config = p->config;
	char prefix[32];

	if (!parse_expect(p, node, "listen", NODE_LIST))
		return;
	config->listens = calloc(CONFIG_LISTENS_MAX, sizeof(*config->listens));
	if (!config->listens) {
		p->no_memory = true;
		return;
	}
	for (const struct node *child = node->first; child; child = child->next) {
		if (config->listen_count == CONFIG_LISTENS_MAX) {
			parse_error(p, child->line, "listen", "16 addresses are the most",
			    "has too many entries");
			return;
		}
		snprintf(prefix, sizeof(prefix), "listen[%zu]", config->listen_count);
		take_listen(p, child, prefix, &config->listens[config->listen_count++]);
	}
	if (config->listen_count == 0)
		parse_error(p, node->line, "listen", "add `- address: 127.0.0.1:8080`", "is empty");
}

void parse_admin(struct parse *p, const struct node *node)
{
	take_listen(p, node, "admin", &p->config->admin);
	p->config->has_admin = true;
}

void parse_default_listen(struct parse *p)
{
	struct config *config = p->config;

	config->listens = calloc(CONFIG_LISTENS_MAX, sizeof(*config->listens));
	if (!config->listens) {
		p->no_memory = true;
		return;
	}
	struct config_address *address = &config->listens[0].address;
	config->listen_count = 1;
	address->text = parse_copy(p, p->defaults->listen);
	snprintf(address->key, sizeof(address->key), "listen[0].address");
	if (address_parse(p->defaults->listen, &address->storage, &address->length))
		parse_error(p, 0, "listen", "write HOST:PORT", "`%.64s` is no address",
		    p->defaults->listen);
}
