/*
 * worker: one of N processes that serve clients.
 *
 * Owns everything below: its loop, its client and upstream connections, its caches. Shares the
 * listening sockets with its siblings and the master, its metrics slot with nobody. One thread;
 * what is called scratch here is valid only until the running callback returns.
 */
#ifndef MARGAY_WORKER_WORKER_H
#define MARGAY_WORKER_WORKER_H

#include <ev.h>
#include <bsd/sys/queue.h>

#include "common/compose.h"
#include "common/envelope.h"
#include "common/role.h"
#include "common/timeout.h"
#include "common/turn.h"
#include "worker/drain.h"
#include "worker/http/date.h"
#include "worker/http/gather.h"
#include "worker/http/outbox.h"
#include "worker/http/reader.h"
#include "worker/mcp/mail.h"
#include "worker/mcp/sessions.h"
#include "worker/upstream/resolver.h"

enum {
	/* Bytes read per wake-up of an upstream: with fewer, long answers wake their clients more
	 * often, which took a third more CPU time for one of 256 KiB. */
	WORKER_SCRATCH = 288 * 1024, /* an answer of 256 KiB and its head in one */
	WORKER_READY_BUDGET = 64,    /* connections with buffered requests served per turn */
	WORKER_HANDSHAKES = 8, /* steps of TLS handshakes per turn: each may cost milliseconds */
};

TAILQ_HEAD(conn_list, conn);
TAILQ_HEAD(exchange_list, exchange);
LIST_HEAD(aside_list, aside);
LIST_HEAD(errand_list, errand);
LIST_HEAD(feed_list, feed);
LIST_HEAD(lease_list, lease);
LIST_HEAD(liaison_list, liaison);
LIST_HEAD(listening_list, listening);
LIST_HEAD(source_list, source);
LIST_HEAD(inlet_list, inlet);
TAILQ_HEAD(inlet_call_list, inlet_call);
TAILQ_HEAD(upstream_connection_list, upstream_connection);

struct accept_slots;
struct cache;
struct client_counts;
struct desktop;
struct stdio;
struct stream_counts;
struct route;
struct upstream;

/* One queue for each kind of deadline; lengths come from the configuration's `timeouts`. */
struct worker_timeouts {
	struct timeout_queue client_header, client_body, client_idle, client_write, client_parting,
	    client_linger;
	struct timeout_queue upstream_connect, upstream_again, upstream_first_byte,
	    upstream_between_bytes, upstream_total;
	struct timeout_queue upstream_idle, sse_heartbeat, session_touch;
	struct timeout_queue ask_window, client_input, retry_probe;
	struct timeout_queue question_patience, question_again, listen_again, listen_soon,
	    listen_heartbeat, listen_touch, source_again, feed_again, feed_more, fanout_more,
	    give_up, lease_patience, replay_prime;
};

/* Streams of requests after their answer, see mcp/replay.h. */
struct replay_shelf {
	struct timeout_queue queue;
	ptrdiff_t room; /* bytes */
};

struct worker {
	const struct role_boot *boot;
	const struct config *config;
	struct ev_loop *loop;
	struct log *log;
	struct metrics_slot *metrics;
	struct sessions *sessions;
	struct resolver *resolver;
	struct stdio *stdio; /* children, through the keeper */
	struct accept_slots *slots;
	struct client_counts *clients;
	struct stream_counts *streams;
	struct cache *cache;  /* of results */
	struct route *routes; /* sorted by path */
	size_t route_count;
	struct desktop *desktop;    /* the only client; NULL: they connect */
	struct upstream *upstreams; /* in the order of the configuration */
	struct worker_timeouts timeouts;

	struct conn_list conns; /* open */
	struct conn_list ready; /* with whole requests in their buffer */
	unsigned conn_count;
	unsigned handshakes;            /* steps that this turn still has */
	struct exchange_list exchanges; /* in flight */
	struct exchange_list spare_exchanges;
	unsigned spare_count;
	struct aside_list asides;
	struct errand_list errands; /* to upstreams of another era */
	struct replay_shelf replays_heard, replays_unheard;
	struct liaison_list liaisons; /* being opened */
	struct inlet_list inlets;     /* clients with one channel, see mcp/inlet.h */
	struct feed_list feeds;
	struct listening_list listenings;
	struct lease_list leases;
	unsigned last_lease;
	uint64_t last_errand;
	unsigned parked_count;
	struct timeout give_up;    /* of parked calls, in portions */
	struct mailbox *mailboxes; /* open ones, see mcp/mail */
	void (*mail_for_all)(struct worker *w, enum mail_kind kind, struct span payload);
	unsigned aside_count;
	/* Closed in this turn; freed before the next poll. */
	struct conn_list closed_conns;
	struct exchange_list closed_exchanges;
	struct upstream_connection_list closed_upstreams;
	struct upstream_connection_list
	    posted_upstreams; /* to be written to at the end of this turn */
	struct errand_list closed_errands;
	struct feed_list closed_feeds;
	struct source_list closed_sources;
	struct listening_list closed_listenings;
	struct liaison_list closed_liaisons;
	struct inlet_call_list closed_inlet_calls;

	ev_io channel;
	ev_prepare prepare;
	ev_idle idle;
	ev_timer heartbeat;
	uint64_t log_dropped_seen;
	struct turn turn;
	bool accepting, draining;
	struct drain drain;

	char scratch[WORKER_SCRATCH];
	struct http_head head;
	struct envelope envelope;
	struct compose_cuts cuts; /* of the message that is composed */
	struct gather gather;
	struct outbox outbox;
	struct http_date date;
};

/* One that has begun to connect to the broker, but not its loop. 0 or -errno: then the process can
 * only end. */
int worker_open(const struct role_boot *boot, struct worker **out) MUST_CHECK;
void worker_close(struct worker *w);
/* Put a connection with buffered bytes on the ready list; the loop will not sleep before it had its
 * turn. */
void worker_ready(struct worker *w, struct conn *c);
/* A message of common/ipc/channel.h. 0 or -errno. */
int worker_tell_master(struct worker *w, uint16_t type, const void *payload, size_t n) MUST_CHECK;
/* Draining and nothing left: leave the loop. */
void worker_check_done(struct worker *w);

#endif
