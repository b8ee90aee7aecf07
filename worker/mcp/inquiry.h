/*
 * inquiry: a request of Margay's own to an upstream, and the one answer to it.
 *
 * Collects the answer, JSON or event stream, in bounded memory; messages before it are left out.
 * One at a time; may be sent again when it is done, from within `done`, too. Embed it; cancel it
 * before it goes, and free it between two turns of the loop.
 */
#ifndef MARGAY_WORKER_MCP_INQUIRY_H
#define MARGAY_WORKER_MCP_INQUIRY_H

#include "common/envelope.h"
#include "worker/http/sse.h"
#include "worker/upstream/upstream.h"

enum { INQUIRY_ANSWER_MAX = 8 * 1024 * 1024 };

struct inquiry {
	struct buffer body; /* the message: written by whoever asks, before it is sent */
	struct upstream_call call;
	struct buffer answer;
	struct sse_data events;
	unsigned status;
	bool sse;
	/* The answer's head (valid now only), or NULL: nobody cares. */
	void (*head)(struct inquiry *q, const struct http_head *head);
	/*
	 * Over: `e` is the result or error (valid now only), with UPSTREAM_OK; NULL when there was
	 * none, with `reason` and `detail` as in upstream_call_ops.end and the answer's `status`.
	 */
	void (*done)(struct inquiry *q, const struct envelope *e, int reason, const char *detail);
};

/* What is asked, in which session. */
struct inquiry_target {
	struct upstream *upstream;
	const struct session_record *record; /* NULL: none */
	enum upstream_action action;         /* over HTTP all are the same */
	struct session_id session;           /* of the record, or the one to be */
	struct span fields;                  /* more header lines */
	bool notification;                   /* has no answer: any is good */
};

/* Send `body`. `done` will run, perhaps before this returns. 0, or -ENOMEM and it will not. */
int inquiry_send(struct inquiry *q, const struct inquiry_target *target) MUST_CHECK;
void inquiry_cancel(struct inquiry *q);
void inquiry_release(struct inquiry *q);

#endif
