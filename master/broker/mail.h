/*
 * mail: which worker has which box, and messages on their way between workers.
 *
 * The broker keeps the addresses, never the mail: it goes out at once or is refused. Boxes belong
 * to the connection that opened them and end with it.
 */
#ifndef MARGAY_MASTER_BROKER_MAIL_H
#define MARGAY_MASTER_BROKER_MAIL_H

#include "common/ipc/broker_proto.h"

struct client;

struct mail_box;

enum { MAIL_BOXES_MAX = 200000 };

struct mail {
	struct mail_box *by_id;
};

/* 0; -EEXIST when somebody else has it; -ENOMEM, -ENOBUFS. */
int mail_box_open(struct mail *m, const struct mail_box_id *id, struct client *owner) MUST_CHECK;
/* Nothing happens unless `owner` has it. */
void mail_box_close(struct mail *m, const struct mail_box_id *id, const struct client *owner);
/* NULL: there is no such box. */
struct client *mail_box_owner(const struct mail *m, const struct mail_box_id *id);
/* The owner is gone, or does not turn: its boxes are not there any more. */
void mail_forget(struct mail *m, const struct client *owner);

#endif
