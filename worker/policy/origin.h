/*
 * origin: which Host and Origin values a listener serves (DNS rebinding, mcp-wire 5.1).
 *
 * Host: the configured `hosts`; without any, a listener on loopback serves localhost names only and
 * every other listener serves any host. Origin: absent is fine (no browser); present it must be in
 * `origins`; without any, a listener on loopback accepts loopback origins and every other none.
 * `null` is never accepted unless `*` is.
 */
#ifndef MARGAY_WORKER_POLICY_ORIGIN_H
#define MARGAY_WORKER_POLICY_ORIGIN_H

#include <stdbool.h>

#include "common/config/config.h"
#include "common/span.h"

bool host_allowed(const struct config_listen *listen, struct span host);
/* `origin` is the value of the single Origin field. */
bool origin_allowed(const struct config_listen *listen, struct span origin);

#endif
