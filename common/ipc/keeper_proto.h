/*
 * keeper_proto: what workers and the keeper say to each other, in frames over a stream (stream.h).
 *
 * `request` is the worker's name for what it asks, unique on its connection, echoed by all that
 * belongs to it. `target` is the id of a child; ids are never used again while the master lives.
 * Payloads begin with the session's id (SESSION_ID_BYTES) where "session" is written; then comes
 * the message, raw. New types may be added; a changed meaning raises KEEPER_PROTOCOL.
 */
#ifndef MARGAY_COMMON_IPC_KEEPER_PROTO_H
#define MARGAY_COMMON_IPC_KEEPER_PROTO_H

enum { KEEPER_PROTOCOL = 2 };

enum keeper_type {
	/* worker to keeper */
	KEEPER_HELLO = 1, /* u16 protocol, u16 role, u32 generation, u32 number */
	KEEPER_OPEN,      /* string upstream, message `initialize`: a child for a new session */
	KEEPER_BIND,      /* session: it exists now, the child is its */
	KEEPER_SEND,      /* session, message or batch; request 0 is not allowed */
	KEEPER_LISTEN,    /* session: give me what belongs to no request, until FORGET */
	KEEPER_FORGET,    /* nobody waits for this request any more; flag KEEPER_CANCEL */
	KEEPER_CLOSE,     /* session: it is over */
	KEEPER_PAUSE,     /* no more from this child, unless it is shared */
	KEEPER_RESUME,
	KEEPER_ASK, /* string upstream, message of the stateless era */
	/* keeper to worker */
	KEEPER_ACCEPTED, /* u32 answers to come: of LISTEN, or of a SEND that was not one request */
	KEEPER_MESSAGE,  /* message on the way to the answer, or for a listener */
	KEEPER_ANSWER,   /* message: the response to a request of that SEND or OPEN */
	KEEPER_FAILED,   /* u8 enum metric_reason, text; the request is over */
	KEEPER_GONE,     /* the child or the session is not there; the request is over */
	KEEPER_ENDED,  /* the stream is over, because the child is; or what it was for is cancelled
			*/
	KEEPER_LEGACY, /* of ASK: the server is not of that era; the request is over */
};

enum { KEEPER_CANCEL = 2 }; /* flags: tell the server that it may stop */

#endif
