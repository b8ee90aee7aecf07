/* clients: see clients.h. */
#include "worker/policy/clients.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct client_count {
	struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
	unsigned connections;
	char name[INET6_ADDRSTRLEN];
	UT_hash_handle hh;
};

struct client_counts {
	struct client_count *rows;
};

static void address_of(const struct sockaddr_storage *peer, struct client_count *row)
{
	if (peer->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)peer;
		row->address.s6_addr[10] = row->address.s6_addr[11] = 0xff;
		memcpy(row->address.s6_addr + 12, &in->sin_addr, sizeof(in->sin_addr));
		inet_ntop(AF_INET, &in->sin_addr, row->name, sizeof(row->name));
	} else {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)peer;
		row->address = in6->sin6_addr;
		inet_ntop(AF_INET6, &in6->sin6_addr, row->name, sizeof(row->name));
	}
}

int clients_open(struct client_counts **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void clients_close(struct client_counts *c)
{
	struct client_count *row, *next;

	HASH_ITER (hh, c->rows, row, next) {
		HASH_DEL(c->rows, row);
		free(row);
	}
	free(c);
}

struct client_count *clients_acquire(
    struct client_counts *c, const struct sockaddr_storage *peer, unsigned max)
{
	struct client_count key = {0}, *row;

	address_of(peer, &key);
	HASH_FIND(hh, c->rows, &key.address, sizeof(key.address), row);
	if (!row) {
		row = malloc(sizeof(*row));
		if (!row)
			return NULL;
		*row = key;
		HASH_ADD(hh, c->rows, address, sizeof(row->address), row);
	} else if (max > 0 && row->connections >= max) {
		return NULL;
	}
	row->connections++;
	return row;
}

void clients_release(struct client_counts *c, struct client_count *row)
{
	if (--row->connections > 0)
		return;
	HASH_DEL(c->rows, row);
	free(row);
}

struct sockaddr_storage clients_peer(const struct client_count *row)
{
	struct sockaddr_storage peer = {0};

	if (IN6_IS_ADDR_V4MAPPED(&row->address)) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)&peer;
		in->sin_family = AF_INET;
		memcpy(&in->sin_addr, row->address.s6_addr + 12, sizeof(in->sin_addr));
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&peer;
		in6->sin6_family = AF_INET6;
		in6->sin6_addr = row->address;
	}
	return peer;
}

const char *clients_name(const struct client_count *row)
{
	return row->name;
}
