/*
 * resolver: names to addresses without blocking (c-ares), cached.
 *
 * One per worker. Literal addresses and localhost are never asked for. Answers are cached by TTL
 * clamped to 5-300 s; when a refresh fails the stale answer goes on serving. Look-ups may be
 * cancelled; a callback never runs from inside resolver_lookup unless it returns 1.
 */
#ifndef MARGAY_WORKER_UPSTREAM_RESOLVER_H
#define MARGAY_WORKER_UPSTREAM_RESOLVER_H

#include <ev.h>
#include <bsd/sys/queue.h>
#include <sys/socket.h>

#include "common/attributes.h"
#include "common/log.h"

enum { RESOLVER_ADDRESSES_MAX = 8 };

struct resolver;

struct resolved {
	unsigned count;
	struct sockaddr_storage addresses[RESOLVER_ADDRESSES_MAX]; /* port set */
	socklen_t lengths[RESOLVER_ADDRESSES_MAX];
};

struct resolver_query {
	TAILQ_ENTRY(resolver_query) link;
	bool pending;
	/* status 0 with addresses (valid during the call), or -EHOSTUNREACH. */
	void (*done)(struct resolver_query *query, int status, const struct resolved *addresses);
};

int resolver_open(struct ev_loop *loop, struct log *log, struct resolver **out) MUST_CHECK;
void resolver_close(struct resolver *r);
/* 1: *now is filled from the cache (or `host` is a literal address); 0: `query` is under way; or
 * -errno. */
int resolver_lookup(struct resolver *r, const char *host, uint16_t port,
    struct resolver_query *query, struct resolved *now) MUST_CHECK;
void resolver_cancel(struct resolver *r, struct resolver_query *query);

#endif
