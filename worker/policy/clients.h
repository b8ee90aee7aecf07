/*
 * clients: how many connections each client address has in this worker.
 *
 * One row per address that has a connection open; freed with its last. Also holds the address as
 * text, formatted once for all log lines.
 */
#ifndef MARGAY_WORKER_POLICY_CLIENTS_H
#define MARGAY_WORKER_POLICY_CLIENTS_H

#include <sys/socket.h>

#include "common/attributes.h"

struct client_counts;
struct client_count;

int clients_open(struct client_counts **out) MUST_CHECK;
void clients_close(struct client_counts *c);
/* Count one connection of `peer`; NULL when it has `max` (0: no limit) already, or memory is short.
 */
struct client_count *clients_acquire(
    struct client_counts *c, const struct sockaddr_storage *peer, unsigned max);
void clients_release(struct client_counts *c, struct client_count *row);
/* Where it connects from, without port. */
struct sockaddr_storage clients_peer(const struct client_count *row);
/* The address without port: "127.0.0.1". */
const char *clients_name(const struct client_count *row);

#endif
