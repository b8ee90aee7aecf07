/*
 * upstream: requests to one MCP server: HTTP/1.1 over a pool of keep-alive connections, or a stdio
 * child through the keeper (stdio.h), which looks the same to the caller.
 *
 * An upstream belongs to one worker and one generation. A call is one request and its answer;
 * whoever embeds it owns the request's bytes until the call ended or was cancelled. A connection
 * serves one call at a time and is freed between two turns of the loop. Knows HTTP, does not know
 * MCP.
 */
#ifndef MARGAY_WORKER_UPSTREAM_UPSTREAM_H
#define MARGAY_WORKER_UPSTREAM_UPSTREAM_H

#include <ev.h>
#include <stdbool.h>
#include <bsd/sys/queue.h>

#include "common/buffer.h"
#include "common/config/config.h"
#include "common/ipc/broker_proto.h"
#include "common/metrics/metrics.h"
#include "common/timeout.h"
#include "worker/http/reader.h"
#include "worker/upstream/resolver.h"
#include "worker/worker.h"

struct catalogue;
struct era_probe;
struct source;
struct upstream_call;
TAILQ_HEAD(upstream_call_list, upstream_call);

struct upstream {
	struct worker *worker;
	const struct config_upstream *config;
	unsigned metrics_id;
	struct upstream_connection_list idle; /* last used first */
	struct upstream_call_list waiting;    /* for a connection to come free */
	unsigned open_count, idle_count, waiting_count;
	struct resolved addresses; /* of the last look-up */
	/* A connected descriptor instead of one to an address, or -errno; NULL: none. */
	int (*dial)(struct upstream *u);
	int era; /* enum era (mcp/era.h), which keeps these */
	double era_since;
	struct era_probe *probe;
	struct buffer discover;      /* a modern one's DiscoverResult */
	struct catalogue *catalogue; /* of its tools, see mcp/catalogue.h */
	struct source *sources;      /* that are heard, see mcp/source.h */
	bool refuses_initialize;     /* a modern one that is not legacy, too */
};

struct upstream_connection {
	ev_io io;
	TAILQ_ENTRY(upstream_connection)
	link; /* upstream's idle, worker's closed_ or posted_upstreams */
	struct upstream *upstream;
	struct upstream_call *call; /* NULL while idle */
	struct reader reader;
	struct buffer in; /* an incomplete head */
	struct timeout idle;
	uint8_t attempt; /* index of the address */
	bool served;     /* a call before this one */
	bool connecting, pooled, posted, received, keep_alive, closed;
};

enum { UPSTREAM_OK = -1 }; /* else an enum metric_reason */

struct upstream_call_ops {
	/* The answer's head (valid now only). */
	void (*head)(struct upstream_call *call, const struct http_head *head);
	/* A piece of its body: must be used, gathered or copied before read_end or end returns. */
	void (*body)(struct upstream_call *call, const char *p, size_t n);
	/* No more pieces in this wake-up; not called when end was. */
	void (*read_end)(struct upstream_call *call);
	/* Over: UPSTREAM_OK after the whole answer, or why not, with a detail for humans (valid now
	 * only). */
	void (*end)(struct upstream_call *call, int reason, const char *detail);
};

enum call_state {
	CALL_OVER,
	CALL_RESOLVING,
	CALL_WAITING,
	CALL_RETRYING,
	CALL_CONNECTING,
	CALL_ACTIVE
};

/* What is asked of the upstream; over HTTP it is what `head` says. */
enum upstream_action {
	UPSTREAM_POST,   /* a message or batch of a session */
	UPSTREAM_ASK,    /* a message of the stateless era: it has no session */
	UPSTREAM_OPEN,   /* initialize */
	UPSTREAM_LISTEN, /* the stream outside of requests */
	UPSTREAM_END,    /* the session is over */
};

struct upstream_call {
	TAILQ_ENTRY(upstream_call) link; /* upstream's waiting, or stdio's: waiting or sent */
	struct upstream *upstream;
	struct upstream_connection *connection;
	const struct upstream_call_ops *ops;
	struct buffer head; /* request line and fields, complete */
	struct span body;   /* the caller's */
	struct session_id session;
	enum call_state state : 8;
	enum upstream_action action : 8;
	bool single;     /* the body is one request, which has one answer */
	bool repeatable; /* may be sent again although it was written (mcp/method.h) */
	bool stream;   /* a stream that is quiet for as long as it likes: only the connect deadline
			  applies */
	bool fresh;    /* not on a pooled connection: one of these turned out to be stale */
	bool answered; /* its head was delivered */
	bool paused;
	/* By way of the keeper, as what is at the end. */
	bool by_keeper, sent, accepted;
	bool settled;           /* the keeper has nothing more for it */
	const char *child_name; /* the upstream's session, valid while it starts; "": none */
	/* The status that goes with a lone answer over HTTP; NULL: always 200. */
	unsigned (*status_of)(struct span answer);
	size_t written; /* of head and body */
	struct resolver_query query;
	struct timeout progress;
	struct timeout_queue *progress_queue;
	struct timeout total;
	double failing_since; /* clock_coarse(), of connecting; 0: not */
	int pending;          /* answers to come */
	uint32_t request;
	uint64_t child;
};

/* All upstreams of the configuration. *out is an array in its order. 0 or -ENOMEM. */
int upstreams_open(struct worker *w, struct upstream **out) MUST_CHECK;
void upstreams_close(struct worker *w);
/* Write the requests of this turn. */
void upstreams_send_posted(struct worker *w);
/* Free the connections that were closed in this turn. */
void upstreams_free_closed(struct worker *w);
void upstream_timeouts_init(struct worker *w);

/*
 * Send. `upstream`, `ops`, `body`, `repeatable` and `stream` are set by the caller, with `head` for
 * HTTP and `action`, `session`, `child_name` and `single` for stdio; the rest is zero. The ops may
 * run before this returns.
 */
void upstream_call_start(struct upstream_call *call);
/* Forget it: no op runs any more. Harmless when it is over. A connection in the middle of an answer
 * is closed. */
void upstream_call_cancel(struct upstream_call *call);
/* Stop and start reading the answer. */
void upstream_call_pause(struct upstream_call *call);
void upstream_call_resume(struct upstream_call *call);
/* Its answer has begun: give back what was sent. False while some of that is still to be sent. */
bool upstream_call_drop_request(struct upstream_call *call);
/* From now on its answer may take as long as it likes, or has its deadlines again. */
void upstream_call_endless(struct upstream_call *call, bool endless);

/* Between pool.c and connection.c. */
void upstream_call_assign(struct upstream_call *call);
void upstream_call_end(struct upstream_call *call, int reason, const char *detail);
void upstream_call_deadline(struct upstream_call *call, struct timeout_queue *queue);
/* There is no connection: try again for a while, or give up. */
void upstream_call_unreachable(struct upstream_call *call, int reason, const char *detail);
void upstream_serve_waiting(struct upstream *u);
void upstream_connection_open(struct upstream *u, struct upstream_call *call);
void upstream_connection_use(struct upstream_connection *uc, struct upstream_call *call);
void upstream_connection_close(struct upstream_connection *uc);
void upstream_connection_update(struct upstream_connection *uc);

#endif
