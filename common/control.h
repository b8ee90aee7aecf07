/*
 * control: where a running Margay's control socket is, and how long its lines may be.
 *
 * Line-delimited JSON over a Unix stream socket: one request object per line, one reply object per
 * line, in order (docs/control-socket.md).
 */
#ifndef MARGAY_COMMON_CONTROL_H
#define MARGAY_COMMON_CONTROL_H

#include <stdio.h>

enum {
	CONTROL_PATH_MAX = 108,
	CONTROL_REQUEST_MAX = 64 * 1024,
	CONTROL_REPLY_MAX = 4 * 1024 * 1024
};

/* The path of a socket or file in the runtime directory. False when it is too long for a Unix
 * socket. */
static inline int control_path(
    const char *runtime_dir, const char *name, char out[CONTROL_PATH_MAX])
{
	int n = snprintf(out, CONTROL_PATH_MAX, "%s/%s", runtime_dir, name);

	return n > 0 && n < CONTROL_PATH_MAX;
}

#define CONTROL_SOCKET "control.sock"
#define BROKER_SOCKET  "broker.sock"
#define KEEPER_SOCKET  "keeper.sock"
#define CHILDREN_FILE  "children"
#define PID_FILE       "margay.pid"

#endif
