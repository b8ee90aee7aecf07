/* config: any bytes are parsed or refused; what is taken is whole, and what is refused is said in
 * one line for each error. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_config(const struct config *config)
{
	require(config->listen_count > 0 && config->route_count > 0 && config->workers > 0);
	require(config->runtime_dir && config->log.file);
	for (size_t i = 0; i < config->listen_count; i++)
		require(config->listens[i].address.text && config->listens[i].address.length > 0);
	require(!config->has_admin || config->admin.address.text);
	for (size_t i = 0; i < config->upstream_count; i++) {
		const struct config_upstream *u = &config->upstreams[i];
		require(u->name && u->url && u->host && u->host[0] && u->authority && u->port > 0);
		require(u->target && u->target[0] == '/');
	}
	for (size_t i = 0; i < config->route_count; i++)
		require(config->routes[i].path[0] == '/' &&
			config->routes[i].upstream < config->upstream_count);
}

static void check_errors(const struct config_errors *errors)
{
	struct buffer out = {0};
	size_t lines = 0;

	require(errors->count > 0);
	if (config_errors_print(errors, "x", &out) == 0) {
		struct span text = buffer_span(&out);
		for (size_t i = 0; i < text.n; i++)
			lines += text.p[i] == '\n';
		require(lines == errors->count);
	}
	buffer_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config;
	struct config_errors errors;

	int status = config_parse((struct span){(const char *)data, size}, NULL, &config, &errors);
	if (status == 0) {
		check_config(config);
		config_free(config);
	} else if (status == -EINVAL) {
		check_errors(&errors);
		config_errors_free(&errors);
	}
	return 0;
}
