/* config: freeing, and what a human reads: errors and the table of keys. */
#include "common/config/config.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/config/schema.h"

enum { TEXT_MAX = 1024 * 1024 };

void config_sha256(struct span bytes, char out[CONFIG_SHA256_TEXT])
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)bytes.p, bytes.n, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static void free_listen(struct config_listen *listen)
{
	free(listen->address.text);
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
