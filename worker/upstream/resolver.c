/*
 * resolver: see resolver.h.
 *
 * One c-ares channel, its sockets watched by the loop. Each name has one row: the last answer, when
 * it expires, and who waits for the next. A look-up already under way is shared by all who ask
 * meanwhile.
 */
#include "worker/upstream/resolver.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/attributes.h"
#include "common/clock.h"
#include "common/turn.h"

enum { RESOLVER_SOCKETS_MAX = 16, RESOLVER_NAMES_MAX = 512 };

static const double ttl_min = 5, ttl_max = 300, retry_after_failure = 5; /* seconds */

struct name {
	LIST_ENTRY(name) link;
	struct resolver *resolver;
	char *host;
	uint16_t port;
	bool asking;
	struct resolved answer; /* count 0: none yet */
	double expires;
	TAILQ_HEAD(query_list, resolver_query) waiting;
};

struct resolver {
	struct ev_loop *loop;
	struct log *log;
	ares_channel channel;
	ev_timer timer;
	struct watched {
		ev_io io;
		struct resolver *resolver;
		bool used;
	} sockets[RESOLVER_SOCKETS_MAX];
	LIST_HEAD(, name) names;
	unsigned name_count;
};

/* c-ares says when it wants to be called even if nothing arrives. */
static void timer_update(struct resolver *r)
{
	struct timeval tv, *next = ares_timeout(r->channel, NULL, &tv);

	ev_timer_stop(r->loop, &r->timer);
	if (!next)
		return;
	ev_timer_set(&r->timer, (double)next->tv_sec + (double)next->tv_usec / 1e6, 0);
	ev_timer_start(r->loop, &r->timer);
}

static void on_socket(struct ev_loop *loop, ev_io *io, int events)
{
	struct watched *w = container_of(io, struct watched, io);
	struct resolver *r = w->resolver;
	int fd = io->fd;

	turn_enter("resolver");
	(void)loop;
	ares_process_fd(r->channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
	    events & EV_WRITE ? fd : ARES_SOCKET_BAD);
	timer_update(r);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct resolver *r = container_of(timer, struct resolver, timer);

	turn_enter("resolver");
	(void)loop;
	(void)events;
	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	timer_update(r);
}

/* c-ares opened, uses differently, or is about to close a socket. */
static void on_socket_state(void *context, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = context;
	struct watched *found = NULL, *unused = NULL;
	int events = (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0);

	for (int i = 0; i < RESOLVER_SOCKETS_MAX; i++) {
		struct watched *w = &r->sockets[i];
		if (w->used && w->io.fd == fd)
			found = w;
		else if (!w->used)
			unused = w;
	}
	if (found)
		ev_io_stop(r->loop, &found->io);
	else
		found = unused;
	/* Without a watcher left the look-up ends by its own time-out. */
	if (!found)
		return;
	found->used = events != 0;
	if (!found->used)
		return;
	found->resolver = r;
	ev_io_init(&found->io, on_socket, fd, events);
	ev_io_start(r->loop, &found->io);
}

int resolver_open(struct ev_loop *loop, struct log *log, struct resolver **out)
{
	struct resolver *r = calloc(1, sizeof(*r));
	struct ares_options options = {.sock_state_cb = on_socket_state, .sock_state_cb_data = r};

	if (!r)
		return -ENOMEM;
	r->loop = loop;
	r->log = log;
	LIST_INIT(&r->names);
	ev_timer_init(&r->timer, on_timer, 0, 0);
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		free(r);
		return -ENOMEM;
	}
	if (ares_init_options(&r->channel, &options, ARES_OPT_SOCK_STATE_CB) != ARES_SUCCESS) {
		ares_library_cleanup();
		free(r);
		return -EIO;
	}
	*out = r;
	return 0;
}

void resolver_close(struct resolver *r)
{
	struct name *n;

	ares_destroy(r->channel);
	ares_library_cleanup();
	ev_timer_stop(r->loop, &r->timer);
	while ((n = LIST_FIRST(&r->names))) {
		LIST_REMOVE(n, link);
		free(n->host);
		free(n);
	}
	free(r);
}

/* One address more, when `text` is one. */
static void add_literal(const char *text, uint16_t port, struct resolved *out)
{
	struct sockaddr_storage *at = &out->addresses[out->count];
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)at;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)at;

	memset(at, 0, sizeof(*at));
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		out->lengths[out->count++] = sizeof(*in);
	} else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		out->lengths[out->count++] = sizeof(*in6);
	}
}

/* Literal addresses, and localhost, which is never asked for (RFC 6761, 6.3). */
static bool parse_literal(const char *host, uint16_t port, struct resolved *out)
{
	struct resolved found = {0};

	if (strcasecmp(host, "localhost") == 0) {
		add_literal("127.0.0.1", port, &found);
		add_literal("::1", port, &found);
	} else {
		add_literal(host, port, &found);
	}
	if (found.count > 0)
		*out = found;
	return found.count > 0;
}

/* Keep the usable addresses of an answer; returns the shortest TTL, clamped. */
static double keep_answer(struct name *n, const struct ares_addrinfo *result)
{
	double ttl = ttl_max;

	n->answer.count = 0;
	for (const struct ares_addrinfo_node *a = result->nodes; a; a = a->ai_next) {
		unsigned i = n->answer.count;
		if (i == RESOLVER_ADDRESSES_MAX || a->ai_addrlen > sizeof(n->answer.addresses[0]))
			continue;
		memcpy(&n->answer.addresses[i], a->ai_addr, a->ai_addrlen);
		n->answer.lengths[i] = a->ai_addrlen;
		n->answer.count++;
		if (a->ai_ttl < ttl)
			ttl = a->ai_ttl;
	}
	return ttl > ttl_min ? ttl : ttl_min;
}

static void tell_waiting(struct name *n)
{
	struct resolver_query *q;

	while ((q = TAILQ_FIRST(&n->waiting))) {
		TAILQ_REMOVE(&n->waiting, q, link);
		q->pending = false;
		q->done(q, n->answer.count > 0 ? 0 : -EHOSTUNREACH,
		    n->answer.count > 0 ? &n->answer : NULL);
	}
}

static void on_answer(void *context, int status, int timeouts, struct ares_addrinfo *result)
{
	struct name *n = context;
	struct resolver *r = n->resolver;

	(void)timeouts;
	if (status == ARES_EDESTRUCTION)
		return;
	n->asking = false;
	if (status == ARES_SUCCESS && result && result->nodes) {
		n->expires = clock_coarse() + keep_answer(n, result);
	} else {
		/* An answer that was good before is better than none. */
		n->expires = clock_coarse() + retry_after_failure;
		LOG(r->log, LOG_LEVEL_WARN, "a host name has no address", LOG_STR("host", n->host),
		    LOG_STR("error", ares_strerror(status)),
		    LOG_STR("served", n->answer.count > 0 ? "stale" : "nothing"));
	}
	if (result)
		ares_freeaddrinfo(result);
	tell_waiting(n);
}

static void ask(struct resolver *r, struct name *n)
{
	static const struct ares_addrinfo_hints hints = {
	    .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NUMERICSERV};
	char port[8];

	n->asking = true;
	snprintf(port, sizeof(port), "%u", n->port);
	ares_getaddrinfo(r->channel, n->host, port, &hints, on_answer, n);
	timer_update(r);
}

static struct name *find_name(struct resolver *r, const char *host, uint16_t port)
{
	struct name *n;

	LIST_FOREACH (n, &r->names, link) {
		if (n->port == port && strcasecmp(n->host, host) == 0)
			return n;
	}
	/* Names come from the configuration only, so the bound is never met in practice. */
	n = r->name_count < RESOLVER_NAMES_MAX ? calloc(1, sizeof(*n)) : NULL;
	if (!n || !(n->host = strdup(host))) {
		free(n);
		return NULL;
	}
	n->resolver = r;
	n->port = port;
	TAILQ_INIT(&n->waiting);
	LIST_INSERT_HEAD(&r->names, n, link);
	r->name_count++;
	return n;
}

int resolver_lookup(struct resolver *r, const char *host, uint16_t port,
    struct resolver_query *query, struct resolved *now)
{
	if (parse_literal(host, port, now))
		return 1;
	struct name *n = find_name(r, host, port);
	if (!n)
		return -ENOMEM;
	if (n->expires <= clock_coarse() && !n->asking)
		ask(r, n); /* may answer at once, from a hosts file */
	if (n->answer.count > 0) {
		*now = n->answer;
		return 1;
	}
	if (!n->asking)
		return -EHOSTUNREACH;
	query->pending = true;
	TAILQ_INSERT_TAIL(&n->waiting, query, link);
	return 0;
}

void resolver_cancel(struct resolver *r, struct resolver_query *query)
{
	struct name *n;

	if (!query->pending)
		return;
	query->pending = false;
	/* The list's head is in the row of its name: find it there. */
	LIST_FOREACH (n, &r->names, link) {
		struct resolver_query *q;
		TAILQ_FOREACH (q, &n->waiting, link) {
			if (q != query)
				continue;
			TAILQ_REMOVE(&n->waiting, q, link);
			return;
		}
	}
}
