/*
 * broker_proto: what workers and the broker say to each other.
 *
 * SEQPACKET frames (frame.h). A worker's first frame is HELLO; the broker checks it and SO_PEERCRED
 * before anything else. Each request gets one reply with the same `request` and FRAME_REPLY. Pushes
 * have request 0, but for INVALIDATE. New types may be added; a changed meaning raises
 * BROKER_PROTOCOL.
 */
#ifndef MARGAY_COMMON_IPC_BROKER_PROTO_H
#define MARGAY_COMMON_IPC_BROKER_PROTO_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ipc/wire.h"
#include "common/metrics/metrics.h"
#include "common/session_id.h"

enum { BROKER_PROTOCOL = 3 };

enum broker_type {
	BROKER_HELLO =
	    1,         /* u16 protocol, u16 role, u32 generation, u32 number -> reply u32 status */
	BROKER_CREATE, /* session record -> reply u32 status (BROKER_OK or BROKER_FULL) */
	BROKER_GET,    /* id -> reply u32 status, session record; the worker may cache it */
	BROKER_TOUCH,  /* u16 count, ids: used just now; no reply, see BROKER_TOUCH_PARTS */
	BROKER_END,    /* id, u8 enum metric_end -> reply u32 status */
	BROKER_INVALIDATE, /* push: id; drop it from the cache, it ended or changed. With a request:
			      and say so with the same */
	BROKER_UPDATE,     /* session record with one more change than the one of that id, which it
			      replaces -> reply u32 status (BROKER_STALE: somebody was faster) */
	BROKER_REAP,       /* push: session record; expired: end the upstream's session */
	BROKER_BOX_OPEN,   /* box id: mail for it comes to the sender -> reply u32 status */
	BROKER_BOX_CLOSE,  /* box id -> reply u32 status */
	BROKER_MAIL, /* box id, u8 kind, bytes or a memfd with them -> reply u32 status; a push of
			the same to the box's owner */
	BROKER_INHERIT, /* instead of HELLO, of a new master: u32 version of the manifest. It is
			   sent all of it (manifest.h); refused: reply u32 status, and the end */
};

/*
 * Mail: what one worker has to say about a call that another one has under way. Whoever may be
 * spoken to opens a box under a random id and opens it anew after a reconnect; mail for a box that
 * is not there is refused, so that its sender knows. What is long travels in a memfd beside the
 * frame.
 */
enum { MAIL_BOX_BYTES = 16, MAIL_INLINE_MAX = 32768, MAIL_MAX = 64 << 20 };

struct mail_box_id {
	uint8_t bytes[MAIL_BOX_BYTES]; /* all zero: every other worker */
};

enum broker_status { BROKER_OK, BROKER_UNKNOWN, BROKER_FULL, BROKER_BAD, BROKER_STALE };

enum { SESSION_UPSTREAM_ID_MAX = 512, SESSION_NAME_MAX = 128, SESSION_STATE_MAX = 32768 };

/* A worker tells of a session's use once in this part of its idle timeout, at most, and once a
 * second. The broker waits for two parts longer: one may be lost with it. */
enum { BROKER_TOUCH_PARTS = 32 };

/* A session as the broker stores it and workers cache it. Strings are copied, NUL-terminated;
 * `state` points to where the record came from. */
struct session_record {
	struct session_id id;
	uint8_t version;       /* enum mcp_version (worker/mcp/version.h); opaque to the broker */
	uint32_t idle_timeout; /* seconds */
	uint32_t changes;      /* how often it was updated */
	char route[SESSION_NAME_MAX];    /* path of the route: a session serves no other */
	char upstream[SESSION_NAME_MAX]; /* name */
	char upstream_session[SESSION_UPSTREAM_ID_MAX]; /* empty: the upstream keeps no session */
	struct span state; /* what else its workers must know, opaque to the broker; mostly empty */
};

void session_record_put(struct wire_writer *w, const struct session_record *record);
/* False when the bytes are no record. */
bool session_record_get(struct wire_reader *r, struct session_record *out);

#endif
