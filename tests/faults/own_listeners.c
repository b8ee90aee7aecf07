/*
 * own_listeners: Margay as it must not be, to prove that the storm would see it.
 *
 * Each worker opens listeners of its own beside the master's, which only hold the address, and
 * closes them when it drains: what waits in their queues is reset. Takes the place of accept_open,
 * accept_leave and listen at link time.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/role.h"
#include "worker/accept.h"
#include "worker/worker.h"

enum { BACKLOG = 4096 };

int __real_accept_open(struct worker *w, struct accept_slots **out);
int __wrap_accept_open(struct worker *w, struct accept_slots **out);
void __real_accept_leave(struct accept_slots *a, uint32_t listeners);
void __wrap_accept_leave(struct accept_slots *a, uint32_t listeners);
int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);

static struct listener_set own;
static struct role_boot own_boot;

int __wrap_listen(int fd, int backlog)
{
	int reuse = 0;
	socklen_t length = sizeof(reuse);

	getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse, &length);
	return reuse ? 0 : __real_listen(fd, backlog);
}

static int open_own(const struct config_address *address)
{
	static const int on = 1;
	int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 &&
	    (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
		(address->storage.ss_family == AF_INET6 &&
		    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
		bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0 ||
		__real_listen(fd, BACKLOG) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

int __wrap_accept_open(struct worker *w, struct accept_slots **out)
{
	own = *w->boot->listeners;
	own_boot = *w->boot;
	own_boot.listeners = &own;
	w->boot = &own_boot;
	for (size_t i = 0; i < own.count; i++) {
		for (unsigned slot = own_boot.number; slot < LISTENER_SLOTS;
		     slot += own_boot.workers) {
			own.rows[i].fds[slot] = open_own(&own.rows[i].config->address);
			if (own.rows[i].fds[slot] < 0)
				return -errno;
		}
	}
	return __real_accept_open(w, out);
}

void __wrap_accept_leave(struct accept_slots *a, uint32_t listeners)
{
	(void)listeners;
	__real_accept_leave(a, 0); /* closed at once, they can't be served to their end */
	for (size_t i = 0; i < own.count; i++) {
		for (unsigned slot = own_boot.number; slot < LISTENER_SLOTS;
		     slot += own_boot.workers)
			close(own.rows[i].fds[slot]);
	}
	own.count = 0;
}
