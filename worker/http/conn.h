/*
 * conn: one client connection: reads requests, hands them to a handler, writes answers in order.
 *
 * Owns its descriptor, the bytes not yet understood and the bytes not yet sent. One request is
 * answered at a time; what a client pipelines waits, bounded, in `in`. A conn belongs to one worker
 * and is freed only between two turns of the loop (worker.h, closed_conns).
 */
#ifndef MARGAY_WORKER_HTTP_CONN_H
#define MARGAY_WORKER_HTTP_CONN_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <bsd/sys/queue.h>

#include "common/buffer.h"
#include "common/listener.h"
#include "common/timeout.h"
#include "worker/http/reader.h"

struct admin_page;
struct client_count;
struct conn;
struct exchange;
struct listening;
struct scrape;
struct tls;
struct tls_server;
struct worker;

enum {
	CONN_HIGH_WATER = 256 * 1024, /* unsent bytes that pause the source of an answer */
	CONN_LOW_WATER = 64 * 1024,
	CONN_BUDGET = 64 * 1024, /* bytes of what is queued written, or read by TLS, a wake-up */
	CONN_READ = 16 * 1024,   /* bytes read else */
	CONN_OUT_MAX = 4 * 1024 * 1024, /* unsent bytes before a message that end the connection */
};

/* What serves the requests of a listener. Each runs while the conn is valid; a conn may be closed
 * in any. */
struct conn_handler {
	/* A head came (in w->head, valid now only). Answer at once (conn_answer...) or return to
	 * get the body. */
	void (*head)(struct conn *c, const struct http_head *head);
	/* A piece of the body; non-zero: an answer was given, the rest is not wanted. */
	int (*body)(struct conn *c, const char *p, size_t n);
	/* The request is complete. */
	void (*complete)(struct conn *c);
	/* Unsent bytes fell below CONN_LOW_WATER. */
	void (*drained)(struct conn *c);
	/* The client is gone or the connection failed in the middle of a request. */
	void (*aborted)(struct conn *c);
	/* The client ended its sending side: is the answer still worth giving? */
	bool (*half_closed)(const struct conn *c);
};

enum conn_state { CONN_HEAD, CONN_BODY, CONN_ANSWERING, CONN_LINGER };

struct conn {
	ev_io io;
	TAILQ_ENTRY(conn) link;  /* worker's conns, or closed_conns */
	TAILQ_ENTRY(conn) ready; /* worker's ready, while in_ready */
	TAILQ_ENTRY(conn) link_posted;
	struct span posted; /* an answer in the worker's outbox; p is NULL: none */
	struct worker *worker;
	const struct listener *listener;
	const struct conn_handler *handler;
	union {
		struct exchange *exchange;   /* of the MCP handler */
		struct listening *listening; /* and of the one that takes over from it */
		const struct admin_page
		    *page;             /* of the admin handler, until its request is whole */
		struct scrape *scrape; /* and from then on, or NULL */
	};
	struct client_count *client;
	struct tls *tls; /* NULL: plain */
	struct reader reader;
	struct buffer in;  /* received, not yet understood */
	struct buffer out; /* to be sent */
	struct timeout deadline;
	struct timeout_queue *deadline_queue;
	struct timeout write_deadline;
	uint64_t opened;          /* microseconds */
	uint64_t request_started; /* microseconds: first byte of the request */
	uint64_t bytes_in, bytes_out;
	unsigned requests;
	uint8_t state;     /* enum conn_state */
	bool close_after;  /* after this answer */
	bool last_request; /* its client says so */
	bool head_sent;    /* some of this answer was given to the socket or its queue */
	bool chunked;      /* this answer's body is chunked */
	bool request_open; /* its first byte came */
	bool http10, above_water, read_ended, in_ready, closed;
	bool securing; /* a TLS handshake is under way */
};

/* Take over an accepted descriptor. NULL when memory is short (the descriptor is closed). */
struct conn *conn_open(struct worker *w, const struct listener *listener,
    const struct conn_handler *handler, int fd, struct client_count *client);
/* Close now; the handler's aborted() runs when a request was under way. Freed after the turn. */
void conn_close(struct conn *c);
/* half_closed() was asked too early, and is asked again. True: the client has left, and it was
 * closed. */
bool conn_left(struct conn *c);
void conn_free(struct conn *c);
/* Send what is in the worker's outbox. */
void conns_send_posted(struct worker *w);

/*
 * Answering. Begin with a head; then body pieces; then conn_end. Pieces are gathered: they must
 * live until conn_flush or conn_end, which write them. After any of these the conn may be closed:
 * check c->closed.
 */
enum { CONN_LENGTH_UNKNOWN = -1, CONN_NO_BODY = -2 };
/* `headers` and `more` are complete lines, each ended by CRLF. Framing and Connection are added
 * here. */
void conn_begin(
    struct conn *c, unsigned status, int64_t content_length, struct span headers, struct span more);
void conn_body(struct conn *c, struct span piece);
void conn_flush(struct conn *c);
/* The answer is complete: next request, or close. */
void conn_end(struct conn *c);
/* The answer can't be completed: end the connection so that the client notices. */
void conn_break(struct conn *c);
/* A whole answer in one. */
void conn_answer(struct conn *c, unsigned status, struct span headers, struct span body);
/* True when the source of the answer should pause until drained() is called. */
static inline bool conn_congested(const struct conn *c)
{
	return buffer_length(&c->out) > CONN_HIGH_WATER;
}

/* From the worker: serve buffered requests; it drains: close soon when idle. */
void conn_serve_buffered(struct conn *c);
void conn_drain(struct conn *c);
void conn_timeouts_init(struct worker *w);

/* Between conn.c, answer.c and handshake.c. */
/* What it waits for must come within the queue's time; NULL: it waits for nothing. */
void conn_deadline(struct conn *c, struct timeout_queue *queue);
/* Nothing waits, neither for the socket nor for the end of the turn. */
bool conn_all_sent(const struct conn *c);
/* The last byte of an answer is with the kernel. */
void conn_answered(struct conn *c);
/* The bytes are no request that we serve: say why, and never trust this connection again. */
void conn_refuse(struct conn *c, unsigned status, const char *reason);
/* Nothing more will be read for the handler: say goodbye, wait for the client's, within bounds. */
void conn_linger(struct conn *c);
/* How long a handshake, or the next request, may take to come. */
void conn_await(struct conn *c);

#endif
