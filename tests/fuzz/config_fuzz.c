/* config: any bytes are parsed or refused, and what is refused can be printed. */
#include <stdint.h>
#include <stdlib.h>

#include "common/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config;
	struct config_errors errors;
	struct buffer out = {0};

	int status = config_parse((const char *)data, size, &config, &errors);
	if (status == 0) {
		if (config->listen_count == 0 || config->route_count == 0 || config->workers == 0)
			abort();
		config_free(config);
		return 0;
	}
	if (errors.count > 0 && config_errors_print(&errors, "x", &out) == 0 &&
	    buffer_length(&out) == 0)
		abort();
	buffer_release(&out);
	config_errors_free(&errors);
	return 0;
}
