/* send: a client's message on its way to a child: ids made the child's own, the rest untouched. */
#ifndef MARGAY_MASTER_KEEPER_SEND_H
#define MARGAY_MASTER_KEEPER_SEND_H

#include "master/keeper/peer.h"

enum { SEND_PIECES_MAX = 5 };

/* The pieces of a text with up to two of its places (p == NULL: none) replaced by `with`. */
unsigned send_splice(struct span text, struct span a, struct span b, struct span with,
    struct span pieces[SEND_PIECES_MAX]);

/* A new session: give it a child. `message` is the client's initialize, within `payload`. */
void send_open(struct fleet *f, struct peer *p, const struct frame *frame, struct span payload,
    struct span message);
/* It refused the initialize that was to serve all who wait: tell them so. `error` is raw. */
void send_refusal(struct instance *i, struct span error);
/* A message or batch of a session's. */
void send_message(struct link *l, struct peer *p, const struct frame *frame, struct span payload,
    struct span message);
/* Nobody waits for this call any more; `cancel`: tell the child. */
void send_forget(struct call *call, bool cancel);

/* Write a request with its call's number for its id and progress token. 0 or -errno. */
int send_call(struct call *call, const struct envelope *e) MUST_CHECK;
/* Say why something could not be written. */
void send_failed(struct instance *i, struct peer *p, uint32_t request, int error);
/* A running child that nobody has asked anything: a spare one, or a new one. NULL when the request
 * waits or was refused. */
struct instance *send_take_child(
    struct fleet *f, struct peer *p, const struct frame *frame, struct span payload);
/* Wait for this child; or until the gate is open, if it makes sense. */
void send_wait_for(
    struct instance *i, struct peer *p, const struct frame *frame, struct span payload);
void send_wait_or_refuse(struct fleet *f, enum fleet_gate gate, struct peer *p,
    const struct frame *frame, struct span payload);

#endif
