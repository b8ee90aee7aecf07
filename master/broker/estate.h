/*
 * estate: what a broker leaves to the one that takes its place (common/handover.h).
 *
 * The workers' connections with what is queued for them, boxes, changes that wait, and what the
 * journal does not say of sessions. Heads of records, in the order in which they are written.
 * Members may be added at the end.
 */
#ifndef MARGAY_MASTER_BROKER_ESTATE_H
#define MARGAY_MASTER_BROKER_ESTATE_H

#include "common/handover.h"
#include "master/broker/broker.h"

enum estate_type {
	ESTATE_CLIENT = 1,
	ESTATE_FRAME, /* payload */
	ESTATE_BOX,
	ESTATE_CHANGE,
	ESTATE_REAP, /* record */
	ESTATE_SESSION,
};

struct estate_client {
	int32_t index, fd;
	uint16_t protocol;
	uint8_t greeted;
};

struct estate_frame {
	struct frame header;
	int32_t client, fd;
};

struct estate_box {
	struct mail_box_id id;
	int32_t client;
};

struct estate_change {
	uint64_t waits;
	struct frame asked;
	double since;
	uint32_t number;
	int32_t maker;
};

struct estate_reap {
	uint64_t cached;
};

struct estate_session {
	uint64_t cached;
	double used;
	struct session_id id;
};

/* estate.c */
/* Leave everything and end the process. Returns when that can't be done now. */
void broker_leave(struct broker *b);
/* Take over what was left, once the journal was read. */
void broker_inherit(struct broker *b, struct handover_reader *left);

/* Each its own. */
void clients_leave(const struct broker *b, struct handover *h);
void mail_leave(const struct mail *m, struct handover *h);
void changes_leave(const struct changes *c, struct handover *h);
void reaps_leave(const struct broker *b, struct handover *h);
void table_leave(const struct table *t, struct handover *h);
void change_inherit(struct changes *c, const struct estate_change *change, struct client *maker);
void reap_inherit(struct broker *b, uint64_t cached, struct span record);

/* -1: nobody. */
int32_t client_index(const struct client *c);
/* Serve a connection under a free index. NULL when memory is short: it stays the caller's. */
struct client *client_add(struct broker *b, unsigned index, int fd, bool greeted);
/* Queue a frame; the descriptor, or -1, is taken. */
void client_requeue(struct client *c, const struct frame *header, const void *payload, int fd);

#endif
