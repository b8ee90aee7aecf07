/*
 * inlet: a client that has one channel for all its messages, served by requests into this worker.
 *
 * Clients over stdio and over HTTP+SSE (2024-11-05) write messages one after the other and read all
 * that is for them from one stream. An inlet makes a request over Streamable HTTP of each, to the
 * worker itself, through a pair of sockets: admission, sessions and the eras are then those of any
 * client. It keeps the order in which notifications and answers came, holds the stream outside of
 * requests open, goes on where a stream broke off, and starts a session anew that was forgotten.
 *
 * One owner; closed in any callback, and then freed when its session is ended.
 */
#ifndef MARGAY_WORKER_MCP_INLET_H
#define MARGAY_WORKER_MCP_INLET_H

#include "worker/mcp/mapping.h"
#include "worker/mcp/version.h"
#include "worker/upstream/upstream.h"

enum {
	INLET_REQUESTS_MAX = 1024,            /* at a time */
	INLET_WAITING_MAX = 16 * 1024 * 1024, /* bytes of messages that wait for their turn */
	INLET_MESSAGE_MAX = 64 * 1024 * 1024, /* of one that is held until it is complete */
};

struct inlet;
struct inlet_call;

struct inlet_ops {
	/* One message for the client, without line ends (valid now only). */
	void (*message)(struct inlet *i, struct span message);
	/* It is behind with reading. */
	bool (*congested)(const struct inlet *i);
	/* Something was answered or went: it may be able to take more, or be idle. */
	void (*progress)(struct inlet *i);
};

struct inlet {
	LIST_ENTRY(inlet) link; /* worker's inlets */
	struct worker *worker;
	const struct inlet_ops *ops;
	void *context;                /* of whoever opened it */
	struct sockaddr_storage peer; /* of the client, for the log */
	struct config_upstream config;
	struct upstream self;
	struct session_record session; /* as this client has it: its id is `upstream_session` */
	struct buffer initialize;      /* as it was sent, for a session that is forgotten */
	struct inlet_call_list calls;  /* sent */
	struct inlet_call_list waiting;
	struct inlet_call_list unread; /* the first is being scanned */
	struct inlet_call *barrier;    /* is to be accepted before anything else is sent */
	struct inlet_call *stream;     /* outside of requests */
	unsigned count;                /* of requests and messages in all three */
	unsigned listens;              /* of these subscriptions/listen */
	size_t waiting_bytes;
	bool borrowed; /* the session */
	bool reopening, closed;
};

/* For a route's path, which must live as long; `peer` is the client's address, for the log, or
 * NULL. NULL when memory is short. */
struct inlet *inlet_open(struct worker *w, const char *path, const struct sockaddr_storage *peer,
    const struct inlet_ops *ops, void *context);
/* Take a message or batch of the client's. What is none is answered as JSON-RPC says. A long one
 * is taken in later turns, and copied, or with the memory (or NULL) that it lies in. */
void inlet_take(struct inlet *i, struct span message, struct mapping *memory);
/* Take one that was scanned, and whose text lives as long as the inlet. */
void inlet_take_scanned(struct inlet *i, const struct envelope *e);
/* More may be taken. */
bool inlet_has_room(const struct inlet *i);
/* Nothing is under way but what has no end of its own. */
bool inlet_is_idle(const struct inlet *i);
/* The client reads again. */
void inlet_resume(struct inlet *i);
/* Its messages belong to a session that somebody else has: no stream is opened, nothing is ended.
 */
void inlet_borrow(struct inlet *i, const struct session_id *session, enum mcp_version version);
/* It goes on with a session that was there before: `session` is filled. */
void inlet_go_on(struct inlet *i);
/* The client is gone: cancel what is under way and, if it is to, end its session behind its back.
 * No op runs any more. */
void inlet_close(struct inlet *i, bool end_session);
/* Between two turns of the loop. */
void inlets_free_closed(struct worker *w);
/* The worker ends: nothing is waited for. */
void inlets_close(struct worker *w);

#endif
