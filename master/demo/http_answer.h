/*
 * http_answer: what goes back on an HTTP connection, request after request.
 *
 * An exchange whose messages become either one JSON body with a Content-Length, or events of an SSE
 * stream: JSON unless something must be sent before the answers, or SSE was asked for. Only queues;
 * the connection writes `out` and goes on once the answer is `complete`.
 */
#ifndef MARGAY_MASTER_DEMO_HTTP_ANSWER_H
#define MARGAY_MASTER_DEMO_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "master/demo/exchange.h"
#include "master/demo/output.h"

/* A reader that leaves so many bytes of events unread is cut off. */
enum { HTTP_UNREAD_MAX = 1 << 20 };

/* What the request decides about its answer. */
struct http_answer_options {
	unsigned status;   /* of a JSON answer */
	bool batch;        /* JSON answers make an array */
	bool sse;          /* never JSON */
	bool announce;     /* the session id of the exchange goes into the header */
	bool keep_alive;   /* the connection serves another request afterwards */
	bool close_framed; /* HTTP/1.0: no chunks, the stream ends with the connection */
	bool no_body;      /* HEAD */
};

struct http_answer {
	struct exchange exchange;
	struct output out;
	struct output collected; /* answers of a batch until the last one */
	struct http_answer_options options;
	void (*changed)(struct http_answer *);
	bool streaming; /* the header of an SSE stream was sent */
	bool complete;
	bool failed; /* the connection must be closed */
};

/* `changed` is called whenever there is something to write or an end to see to. */
void http_answer_init(struct http_answer *a, void (*changed)(struct http_answer *));
/* For the next request; sees the last exchange off. */
void http_answer_reset(struct http_answer *a);
void http_answer_release(struct http_answer *a);
/* A header without a body; `extra` is a header line with its CRLF, or "". */
void http_answer_empty(struct http_answer *a, unsigned status, const char *extra);
/* A JSON-RPC error without an id. */
void http_answer_refuse(
    struct http_answer *a, unsigned status, const char *extra, int code, const char *text);
/* Begin the SSE stream, if it has not begun. */
void http_answer_stream(struct http_answer *a);
/* 100 Continue, before the answer. */
void http_answer_continue(struct http_answer *a);

#endif
