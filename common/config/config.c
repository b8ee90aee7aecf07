/* config: freeing, and what a human reads: errors and the table of keys. */
#include "common/config/config.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config/parser.h"
#include "common/config/schema.h"
#include "common/utf8.h"

enum { TEXT_MAX = 1024 * 1024 };

void config_sha256(struct span bytes, char out[CONFIG_SHA256_TEXT])
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)bytes.p, bytes.n, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static void free_secret(char *text, size_t n)
{
	if (n > 0)
		OPENSSL_cleanse(text, n);
	free(text);
}

static void free_listen(struct config_listen *listen)
{
	free(listen->address.text);
	free(listen->tls.certificate);
	free_secret(listen->tls.key, listen->tls.key ? strlen(listen->tls.key) : 0);
	for (size_t i = 0; i < listen->host_count; i++)
		free(listen->hosts[i]);
	for (size_t i = 0; i < listen->origin_count; i++)
		free(listen->origins[i]);
	free(listen->hosts);
	free(listen->origins);
}

static void free_texts(char **texts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
	free(texts);
}

static void free_upstream(struct config_upstream *u)
{
	struct config_stdio *stdio = &u->stdio;

	free(u->name);
	free(u->url);
	free(u->host);
	free(u->target);
	free(u->authority);
	free(u->headers);
	free(stdio->url);
	free(stdio->command);
	free(stdio->cwd);
	free_texts(stdio->args, stdio->arg_count);
	free_texts(stdio->inherit, stdio->inherit_count);
	for (size_t i = 0; i < stdio->env_count; i++) {
		free(stdio->env[i].name);
		free(stdio->env[i].value);
	}
	free(stdio->env);
}

void config_free(struct config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->listen_count; i++)
		free_listen(&config->listens[i]);
	free_listen(&config->admin);
	for (size_t i = 0; i < config->upstream_count; i++)
		free_upstream(&config->upstreams[i]);
	for (size_t i = 0; i < config->route_count; i++)
		free(config->routes[i].path);
	free(config->listens);
	free(config->upstreams);
	free(config->routes);
	free(config->runtime_dir);
	free(config->user);
	free(config->log.file);
	free_secret(config->outside.data, config->outside.tail);
	config_errors_free(&config->warnings);
	free(config);
}

void config_errors_free(struct config_errors *errors)
{
	for (size_t i = 0; i < errors->count; i++) {
		free(errors->rows[i].key);
		free(errors->rows[i].problem);
		free(errors->rows[i].remedy);
	}
	free(errors->rows);
	*errors = (struct config_errors){0};
}

/* Text of the file for a message of one line: no control character reaches a terminal or begins a
 * line of its own, and no character is cut in half. */
static void make_printable(char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n;) {
		unsigned char *p = (unsigned char *)text + i;
		size_t length = utf8_length(p, n - i);
		bool control = *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0);
		if (length == 0 || control)
			memset(p, '?', length > 0 ? length : 1);
		i += length > 0 ? length : 1;
	}
}

int config_errors_vadd(struct config_errors *errors, unsigned line, const char *key,
    const char *remedy, const char *problem, va_list args)
{
	char text[512], path[CONFIG_KEY_MAX];

	vsnprintf(text, sizeof(text), problem, args);
	snprintf(path, sizeof(path), "%s", key);
	make_printable(text);
	make_printable(path);
	struct config_error *rows = realloc(errors->rows, (errors->count + 1) * sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	errors->rows = rows;
	struct config_error *row = &rows[errors->count++];
	*row = (struct config_error){line, strdup(path), strdup(text), strdup(remedy)};
	return row->key && row->problem && row->remedy ? 0 : -ENOMEM;
}

int config_errors_add(struct config_errors *errors, unsigned line, const char *key,
    const char *remedy, const char *problem, ...)
{
	va_list args;

	va_start(args, problem);
	int error = config_errors_vadd(errors, line, key, remedy, problem, args);
	va_end(args);
	return error;
}

int config_errors_print(const struct config_errors *errors, const char *name, struct buffer *out)
{
	int error = 0;

	for (size_t i = 0; i < errors->count && !error; i++) {
		const struct config_error *row = &errors->rows[i];
		if (row->line > 0)
			error = buffer_printf(out, TEXT_MAX, "%s:%u: %s: %s; %s\n", name, row->line,
			    row->key, row->problem, row->remedy);
		else
			error = buffer_printf(out, TEXT_MAX, "%s: %s: %s; %s\n", name, row->key,
			    row->problem, row->remedy);
	}
	return error;
}

int config_document(struct buffer *out)
{
	int error = buffer_printf(
	    out, TEXT_MAX, "| key | value | default | meaning |\n|---|---|---|---|\n");

	for (size_t i = 0; i < setting_count && !error; i++) {
		const struct setting *s = &settings[i];
		char value[96];
		if (s->low)
			snprintf(value, sizeof(value), "%s, %s to %s", setting_type_name(s->type),
			    s->low, s->high);
		else
			snprintf(value, sizeof(value), "%s", setting_type_name(s->type));
		error = buffer_printf(out, TEXT_MAX, "| `%s` | %s | %s%s%s | %s |\n", s->key, value,
		    s->value ? "`" : "", s->value ? s->value : "", s->value ? "`" : "", s->help);
	}
	return error;
}
