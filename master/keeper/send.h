/* send: a client's message on its way to a child: ids made the child's own, the rest untouched. */
#ifndef MARGAY_MASTER_KEEPER_SEND_H
#define MARGAY_MASTER_KEEPER_SEND_H

#include "master/keeper/peer.h"

/* A new session: give it a child. `message` is the client's initialize, within `payload`. */
void send_open(struct fleet *f, struct peer *p, const struct frame *frame, struct span payload,
    struct span message);
/* A message or batch of a session's. */
void send_message(struct link *l, struct peer *p, const struct frame *frame, struct span payload,
    struct span message);
/* Nobody waits for this call any more; `cancel`: tell the child. */
void send_forget(struct call *call, bool cancel);

#endif
