/* listeners: see listeners.h. */
#include "master/supervisor/listeners.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <bsd/sys/queue.h>

#include "common/address.h"

enum { LISTENER_BACKLOG = 4096 };

struct bound {
	LIST_ENTRY(bound) link;
	struct sockaddr_storage storage;
	socklen_t length;
	unsigned references;
	int fds[LISTENER_SLOTS];
};

struct listeners {
	LIST_HEAD(, bound) rows;
};

int listeners_open(struct listeners **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	LIST_INIT(&(*out)->rows);
	return 0;
}

static void bound_close(struct bound *b)
{
	LIST_REMOVE(b, link);
	for (int i = 0; i < LISTENER_SLOTS; i++) {
		if (b->fds[i] >= 0)
			close(b->fds[i]);
	}
	free(b);
}

void listeners_close(struct listeners *l)
{
	while (!LIST_EMPTY(&l->rows))
		bound_close(LIST_FIRST(&l->rows));
	free(l);
}

/* All members of a group carry the same options, or the kernel keeps them apart. */
static int bind_slot(const struct config_address *address)
{
	static const int on = 1;
	int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    (address->storage.ss_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0 ||
	    listen(fd, LISTENER_BACKLOG) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

/*
 * SO_REUSEPORT would let us share an address with another program of this user, and each would get
 * half of the clients: a plain bind first finds out whether the address is free.
 */
static int check_free(const struct config_address *address)
{
	static const int on = 1;
	int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (address->storage.ss_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0)
		error = -errno;
	close(fd);
	return error;
}

static int bound_open(struct listeners *l, const struct config_address *address, struct bound **out)
{
	struct bound *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->storage = address->storage;
	b->length = address->length;
	memset(b->fds, -1, sizeof(b->fds));
	LIST_INSERT_HEAD(&l->rows, b, link);
	int error = check_free(address);
	for (int i = 0; i < LISTENER_SLOTS && !error; i++) {
		b->fds[i] = bind_slot(address);
		error = b->fds[i] < 0 ? b->fds[i] : 0;
	}
	if (error) {
		bound_close(b);
		return error;
	}
	*out = b;
	return 0;
}

void listeners_refuse(struct listeners *l)
{
	struct bound *b;

	LIST_FOREACH (b, &l->rows, link) {
		for (int i = 0; i < LISTENER_SLOTS; i++)
			shutdown(b->fds[i], SHUT_RD);
	}
}

static struct bound *bound_find(struct listeners *l, const struct sockaddr_storage *storage)
{
	struct bound *b;

	LIST_FOREACH (b, &l->rows, link) {
		if (address_equal(&b->storage, storage))
			return b;
	}
	return NULL;
}

static int acquire(
    struct listeners *l, const struct config_listen *listen, bool admin, struct listener_set *set)
{
	struct bound *b = bound_find(l, &listen->address.storage);

	if (!b) {
		int error = bound_open(l, &listen->address, &b);
		if (error)
			return error;
	}
	b->references++;
	struct listener *row = &set->rows[set->count++];
	row->config = listen;
	row->admin = admin;
	memcpy(row->fds, b->fds, sizeof(row->fds));
	return 0;
}

int listeners_acquire(struct listeners *l, const struct config *config, struct listener_set *set,
    const struct config_address **failed)
{
	int error = 0;

	set->count = 0;
	for (size_t i = 0; i < config->listen_count && !error; i++) {
		*failed = &config->listens[i].address;
		error = acquire(l, &config->listens[i], false, set);
	}
	if (!error && config->has_admin) {
		*failed = &config->admin.address;
		error = acquire(l, &config->admin, true, set);
	}
	if (error)
		listeners_release(l, set);
	return error;
}

void listeners_release(struct listeners *l, const struct listener_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		struct bound *b = bound_find(l, &set->rows[i].config->address.storage);
		if (b && --b->references == 0)
			bound_close(b);
	}
}
