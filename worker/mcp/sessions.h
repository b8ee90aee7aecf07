/*
 * sessions: this worker's end of the broker, and its cache of session records.
 *
 * Owns the connection to the broker (reconnects with back-off, requests wait meanwhile) and a
 * bounded LRU cache that the broker invalidates. In the steady state a look-up is a hash-table hit
 * and `touch` a list insertion; touches go out batched once a second. Calls may be cancelled at any
 * time; a callback never runs after that, and never from inside the function that started it.
 */
#ifndef MARGAY_WORKER_MCP_SESSIONS_H
#define MARGAY_WORKER_MCP_SESSIONS_H

#include <ev.h>
#include <bsd/sys/queue.h>

#include "common/ipc/broker_proto.h"
#include "common/buffer.h"
#include "common/role.h"
#include "worker/mcp/mapping.h"

struct sessions;

/* Mail came for a box of this worker's, or with a box of zeros for every worker. What is long lies
 * in `memory`, which may be taken over; the payload is valid now only, or as long as that. */
typedef void session_mail(void *context, const struct mail_box_id *box, unsigned kind,
    struct span payload, struct mapping *memory);

/* A question to the broker under way. Embed it; container_of leads back to the asker. */
struct session_call {
	TAILQ_ENTRY(session_call) link;
	uint32_t request; /* 0: not under way */
	ev_tstamp deadline;
	/*
	 * status: 0; -ENOENT unknown or ended; -ENOSPC sessions.max reached; -ETIMEDOUT the broker
	 * did not answer within 2 s. `record` is set for get with status 0 and lives until the
	 * callback returns.
	 */
	void (*done)(struct session_call *call, int status, const struct session_record *record);
};

/* The upstream's side of an expired session must be ended (BROKER_REAP). */
typedef void session_reaper(void *context, const struct session_record *record);

/* Another worker ended or changed the session. */
typedef void session_invalidated(void *context, const struct session_id *id);

/* Starts to connect. *out is the caller's. 0 or -errno. */
int sessions_open(struct ev_loop *loop, const struct role_boot *boot, struct metrics_slot *metrics,
    session_reaper *reap, void *context, struct sessions **out) MUST_CHECK;
void sessions_close(struct sessions *s);
bool sessions_connected(const struct sessions *s);
/* Called once, when the first HELLO was accepted: the worker may say READY. */
void sessions_on_ready(struct sessions *s, void (*ready)(void *context), void *context);

/* The id that a client sent; false when it is none that our key made. */
bool sessions_parse(struct sessions *s, struct span text, struct session_id *out) MUST_CHECK;
/*
 * Look up. The record itself when cached (valid until the loop turns; touched), or NULL with `call`
 * under way. Fails at once through *error (-ENOBUFS: over 1000 calls wait).
 */
const struct session_record *sessions_get(
    struct sessions *s, const struct session_id *id, struct session_call *call, int *error);
/* Register a new session (copied, cached on success). 0 with `call` under way, or -ENOBUFS. */
int sessions_create(
    struct sessions *s, const struct session_record *record, struct session_call *call) MUST_CHECK;
/* Replace the record of its id, everywhere, by one with one more change; status -EAGAIN when
 * somebody was faster: get it and try again. Otherwise as sessions_create. */
int sessions_update(
    struct sessions *s, const struct session_record *record, struct session_call *call) MUST_CHECK;
/* End it here and at the broker, which is told until it knows. `call` (or NULL) learns when no
 * worker uses it any more, or that the broker is still to hear of it (-ETIMEDOUT). 0, or -ENOBUFS:
 * it is left to its idle timeout. */
int sessions_end(struct sessions *s, const struct session_id *id, enum metric_end reason,
    struct session_call *call);
/* Used just now (open streams call it periodically). */
void sessions_touch(struct sessions *s, const struct session_id *id);
/* With the context of the reaper. */
void sessions_on_invalidate(struct sessions *s, session_invalidated *invalidated);
/* Mail (broker_proto.h), and the boxes that it comes to. `reopen` runs at each connection but the
 * first: the broker knows none of our boxes any more; `mailed` when sessions_mailing is over. */
void sessions_on_mail(struct sessions *s, session_mail *mail, void (*reopen)(void *context),
    void (*mailed)(void *context), void *context);
/* Send what is no longer than MAIL_INLINE_MAX (copied); `call` learns with -ENOENT that nobody has
 * the box. What goes to one box arrives in its order. 0 or -ENOBUFS. */
int sessions_mail(struct sessions *s, const struct mail_box_id *box, unsigned kind,
    struct span payload, struct session_call *call) MUST_CHECK;
/* Send what may be longer: then it is taken over, `payload` is empty, and it goes in a later turn
 * (parcel.h). */
int sessions_mail_long(struct sessions *s, const struct mail_box_id *box, unsigned kind,
    struct buffer *payload, struct session_call *call) MUST_CHECK;
/* Something long is not sent yet. */
bool sessions_mailing(const struct sessions *s);
/* Open or close; `call` (or NULL) learns when the broker knows. 0 or -ENOBUFS. */
int sessions_box(struct sessions *s, const struct mail_box_id *box, bool open,
    struct session_call *call) MUST_CHECK;
void session_call_cancel(struct sessions *s, struct session_call *call);

#endif
