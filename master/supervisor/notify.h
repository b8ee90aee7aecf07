/*
 * notify: what the service manager is told: ready, reloading, stopping, alive (sd_notify(3), whose
 * protocol is a datagram of lines to the socket that NOTIFY_SOCKET names).
 *
 * Without such a socket nothing is said. Nothing waits: a manager that does not read misses a line.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_NOTIFY_H
#define MARGAY_MASTER_SUPERVISOR_NOTIFY_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/attributes.h"

enum { NOTIFY_FDS_MAX = 250 }; /* of one message */

struct notify {
	int fd; /* -1: nobody wants to hear */
	struct sockaddr_un address;
	socklen_t length;
	double watchdog_every; /* seconds; 0: it is not asked for */
	double watchdog_at;    /* clock_coarse() */
};

/* As the environment says; its variables reach no stdio child (master/keeper/spawn.c). */
void notify_open(struct notify *n);
void notify_close(struct notify *n);
/* Lines as in sd_notify(3), at most 1 KiB. */
void notify_tell(struct notify *n, const char *format, ...) PRINTF_LIKE(2, 3);
/* The same with descriptors, which stay the caller's. 0, -EAGAIN when the manager does not read
 * just now, or -errno. */
int notify_pass(struct notify *n, const char *text, const int *fds, unsigned count) MUST_CHECK;
/* Called often; `healthy`: Margay serves. */
void notify_watchdog(struct notify *n, double now, bool healthy);

#endif
