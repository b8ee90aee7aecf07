/*
 * exchange: one client request on its way to an upstream and its answer on the way back.
 *
 * Made when the head of a request came, over when the answer was given, handed over or the client
 * went. It has one owner, its conn; the call and the look-up embedded in it are cancelled with it.
 * Freed between two turns of the loop.
 *
 *   exchange.c   begin, refuse, finish, abort: the life
 *   access.h     the access log, the counters
 *   admission.c  what may pass: host, origin, route, session, revision
 *   modern.c     requests of the stateless era
 *   relay.c      the request built anew for the upstream, the answer streamed back
 *   handshake.c  the answer to initialize, which makes a session
 *   down.c       what goes to an upstream of the era before
 *   up.c         what goes to an upstream of the era after
 *   http_sse.c   clients of HTTP+SSE
 *   batch.c      a batch taken apart
 */
#ifndef MARGAY_WORKER_MCP_EXCHANGE_H
#define MARGAY_WORKER_MCP_EXCHANGE_H

#include <bsd/sys/queue.h>

#include "worker/http/conn.h"
#include "worker/http/sse.h"
#include "worker/mcp/catalogue.h"
#include "worker/mcp/era.h"
#include "worker/mcp/liaison.h"
#include "worker/mcp/method.h"
#include "worker/mcp/sessions.h"
#include "worker/mcp/version.h"
#include "worker/upstream/upstream.h"
#include "worker/worker.h"

struct errand;
struct http_sse;
struct inlet;
struct lease;
struct listening;
struct stay;
struct subscriber;
struct resume;
struct route;

enum reply_id {
#define REPLY(id, status, code, outcome, headers, message) REPLY_##id,
#include "worker/mcp/replies.def"
#undef REPLY
};

enum exchange_kind { EXCHANGE_POST, EXCHANGE_STREAM, EXCHANGE_DELETE };

enum { EXCHANGE_VERSION_MAX = 16, EXCHANGE_LOG_NAME_MAX = 64, EXCHANGE_TRACE_MAX = 56 };

struct exchange {
	TAILQ_ENTRY(exchange) link;
	struct worker *worker;
	struct conn *conn;
	const struct route *route; /* NULL until found */
	enum exchange_kind kind;

	/* From the head. */
	struct session_id session;
	char version[EXCHANGE_VERSION_MAX]; /* MCP-Protocol-Version; empty: none */
	bool has_session, bad_session;
	bool is_http_sse;      /* of the transport of 2024-11-05 */
	struct buffer forward; /* header lines that travel on */
	struct buffer fields;  /* those of the stateless era: Mcp-Method and so on */

	/* From the body. */
	struct buffer body;
	size_t body_length;        /* as announced; 0: not */
	struct scanning *scanning; /* of a long one */
	struct span id; /* raw JSON in body; empty: a notification, an answer or a batch */
	const struct mcp_method *method; /* of a single request, else NULL */
	enum metric_method class;
	bool is_initialize, is_request, is_batch, batch_has_requests, batch_taken;
	bool modern;             /* of the stateless era */
	bool has_capabilities;   /* of such a request: it names its client's */
	struct buffer cache_key; /* under which its result may be kept */
	unsigned capabilities;   /* those, as enum capability (translate.h) */
	int log_level;           /* of messages it wants, see liaison_level */

	/* On the way. */
	struct session_call lookup;
	struct era_wait era;
	struct catalogue_wait catalogue;
	struct liaison_wait liaison;
	struct lease *lease; /* until an errand has it */
	struct upstream_call call;
	struct errand *errand;         /* towards the other era */
	struct subscriber *subscriber; /* to a legacy upstream, see feed.h */
	struct listening *listening;   /* to a modern one, until that has its conn; see listen.h */
	struct inlet *batch;           /* makes requests of a batch, see batch.h */
	struct http_sse *http_sse;     /* a client of that transport */
	struct resume *resume;         /* of such a one that waits elsewhere */
	struct giving *giving;         /* a long answer that is at hand */
	enum era upstream_era;
	enum mcp_version revision;
	unsigned tries;        /* to change the session */
	bool streaming;        /* the answer is SSE */
	bool counted_stream;   /* in streams.h */
	bool handed_over;      /* not over: another one gives the answer */
	bool answering;        /* conn_begin was called */
	bool upstream_session; /* the upstream keeps a session, which it may lose */
	bool noted;            /* the first piece of a JSON answer was looked at */
	bool leaving;          /* at the next event boundary: its stay is over */
	struct sse sse;
	uint64_t expected; /* bytes of a JSON answer; 0: unknown */
	struct timeout heartbeat, touch;
	struct stay *stay;           /* of a stream while the worker drains */
	struct handshake *handshake; /* only for initialize */

	/* For log and metrics. */
	unsigned status;
	enum metric_outcome outcome;
	uint64_t upstream_started, upstream_micros;
	char name[EXCHANGE_LOG_NAME_MAX]; /* params.name, cut */
	char method_name[EXCHANGE_LOG_NAME_MAX];
	char trace[EXCHANGE_TRACE_MAX]; /* traceparent, of 55 characters */
};

extern const struct conn_handler exchange_handler;

/* Answer with a row of replies.def; `detail` (or NULL) is appended to the message, `data` (or
 * empty) is raw JSON. */
void exchange_refuse(struct exchange *x, enum reply_id reply, const char *detail, struct span data);
/* Refuse because of the upstream, which the message names. */
void exchange_upstream_failed(struct exchange *x, int reason, const char *detail);
/* The message of the body, scanned again into the worker's envelope: what pointed into an earlier
 * scan is gone whenever something was waited for. NULL when it is none. */
const struct envelope *exchange_message(struct exchange *x);
/* 202: there is nothing to say to it. */
void exchange_accept(struct exchange *x);
/* The answer was given (conn_end was called or the conn is gone): log, count, let go. */
void exchange_finish(struct exchange *x);
/* Its `listening` gives the rest of the answer, and says when that is over. */
void exchange_hand_over(struct exchange *x);
void exchange_free(struct exchange *x);
/* Free those that are kept for the next requests. */
void exchanges_close(struct worker *w);
void exchange_timeouts_init(struct worker *w);
/* Its answer is a stream without an end of its own. */
bool exchange_is_endless(const struct exchange *x);
/* Such an answer begins: of the request, keep its id only. */
void exchange_keep_id(struct exchange *x);
/* The worker drains: end a stream in a while (drain_wait), so that its client comes back to another
 * worker. */
void exchange_drain(struct exchange *x);

/* admission.c */
void admission_head(struct exchange *x, const struct http_head *head);
void admission_complete(struct exchange *x);
/* relay.c */
extern const struct upstream_call_ops relay_ops;
/* `record` is NULL for initialize, and in the stateless era. */
void relay_start(struct exchange *x, const struct session_record *record);
/* Begin the client's answer with the media type and more header lines. */
void relay_begin(struct exchange *x, unsigned status, int64_t length, bool sse, struct span more);
/* The header lines of an event stream. */
extern const struct span relay_event_headers;
/* A whole answer in JSON; `more` as in relay_begin. */
void relay_answer(struct exchange *x, unsigned status, struct span message, struct span more);
/* Pass on a piece of the answer. */
void relay_piece(struct exchange *x, struct span piece);
/* One message as an event of the stream that was begun, written at once. The exchange may be over
 * afterwards. */
void relay_event(struct exchange *x, struct span message);
/* The upstream's answer ended (reason as in upstream_call_ops.end) after relay_begin. */
void relay_over(struct exchange *x, int reason, const char *detail);
void relay_drained(struct exchange *x);
/* Now, if it is between two events. */
void relay_end_stream(struct exchange *x);
/* A line that tells a client when to come back: jittered, as others are sent away with it. */
enum { RELAY_RETRY_TEXT = 32 };
struct span relay_retry(char text[RELAY_RETRY_TEXT]);
/* The head of a request over HTTP; nothing for a stdio upstream. Of `body` (or NULL) the length is
 * said, no more. 0 or -ENOMEM, -EMSGSIZE. */
int relay_build_head(struct buffer *out, const char *method, const struct upstream *u,
    const struct session_record *record, struct span version, struct span forward,
    const struct span *body) MUST_CHECK;
/* handshake.c */
extern const struct upstream_call_ops handshake_ops;
void handshake_free(struct exchange *x);

#endif
