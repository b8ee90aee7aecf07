/*
 * mail: boxes of this worker, to which other workers (and this one) send what belongs to a call
 * that is under way here (broker_proto.h).
 *
 * A legacy call that waits for its modern client, the client's retry that waits for the call, and
 * a request that waits for what its legacy client says: each has a box while it must be found from
 * elsewhere. What a call's mail means is said by kind; payloads are in wire form (ipc/wire.h).
 */
#ifndef MARGAY_WORKER_MCP_MAIL_H
#define MARGAY_WORKER_MCP_MAIL_H

#include <uthash.h>

#include "worker/mcp/sessions.h"

struct worker;

enum mail_kind {
	MAIL_RESUME = 1, /* to a parked call: its client is back, see parked.c */
	MAIL_MESSAGE,    /* to a retry: a message before the answer */
	MAIL_ANSWER,     /* to a retry: u16 HTTP status, the answer; 0: it is refused */
	MAIL_GONE,       /* to a parked call: box of the retry whose client went */
	MAIL_PROBE,      /* nothing; whoever sends it learns whether the box is still there */
	MAIL_RESPONSE,   /* to a question: session id, the client's response */
	MAIL_REPLAY,     /* to a request: a client wants what it missed, see replay.h */
	MAIL_EVENT,      /* to whoever asked for that */
	MAIL_INLET,      /* to an inlet: a message of its client, see http_sse.c */
	MAIL_CANCELLED,  /* to all: session id, raw id of the request that its client cancelled */
};

/* Embed it; close it before it goes. */
struct mailbox {
	UT_hash_handle hh;
	struct mail_box_id id;
	struct worker *worker; /* while open */
	struct session_call opening;
	/* The broker knows it (status 0) or does not answer. */
	void (*opened)(struct mailbox *box, int status);
	/* What is long lies in `memory`, which may be taken over. */
	void (*mail)(
	    struct mailbox *box, enum mail_kind kind, struct span payload, struct mapping *memory);
};

enum { MAIL_BOX_TEXT = 2 * MAIL_BOX_BYTES };

/* The id of a box in hexadecimal. False when the text is none; that of everybody is none. */
void mail_box_format(const struct mail_box_id *box, char out[MAIL_BOX_TEXT + 1]);
bool mail_box_parse(struct span text, struct mail_box_id *out) MUST_CHECK;
/* Hear of mail. `everybody` gets what is for all workers. */
void mail_start(struct worker *w,
    void (*everybody)(struct worker *w, enum mail_kind kind, struct span payload));
/* Under a new random id. 0, -EIO, -ENOBUFS. */
int mailbox_open(struct worker *w, struct mailbox *box) MUST_CHECK;
/* The id that all workers derive from a session, for one purpose. 0 or -EIO. */
int mailbox_id(struct worker *w, const char *purpose, const struct session_id *session,
    struct mail_box_id *out) MUST_CHECK;
/* Under an id that all workers derive from the session: nobody else has it open then, or status is
 * -EPROTO; -EEXIST when somebody here has. */
int mailbox_open_as(struct worker *w, struct mailbox *box, const char *purpose,
    const struct session_id *session) MUST_CHECK;
/* The one that is open here under such an id; NULL: none. */
struct mailbox *mailbox_find(
    struct worker *w, const char *purpose, const struct session_id *session);
void mailbox_close(struct mailbox *box);

#endif
