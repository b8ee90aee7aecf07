/*
 * listener: the SO_REUSEPORT slots of one listen address.
 *
 * The master binds LISTENER_SLOTS sockets per address and never closes them while the address is
 * configured; children inherit them. Worker w of N accepts from the slots s where s mod N = w.
 * A worker never closes a slot nor calls shutdown() on it: the queue belongs to the socket
 * (docs/architecture.md).
 */
#ifndef MARGAY_COMMON_LISTENER_H
#define MARGAY_COMMON_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/config/config.h"

enum { LISTENER_SLOTS = 32 };

struct listener {
	const struct config_listen *config; /* of the generation that uses this view */
	bool admin;
	bool inner; /* not a listener: what the worker asks of itself, see worker/mcp/inlet.h */
	int fds[LISTENER_SLOTS];
};

struct listener_set {
	struct listener rows[CONFIG_LISTENS_MAX + 1]; /* the last may be the admin address */
	size_t count;
};

_Static_assert(CONFIG_LISTENS_MAX + 1 <= 32, "a listener is a bit of a uint32_t");

#endif
