/*
 * broker: the state of the broker process, shared by its loop (broker.c) and its clients
 * (client.c).
 *
 * The only process that holds sessions; workers ask it over SEQPACKET and cache the answers.
 */
#ifndef MARGAY_MASTER_BROKER_BROKER_H
#define MARGAY_MASTER_BROKER_BROKER_H

#include <ev.h>

#include "common/turn.h"
#include "master/broker/change.h"
#include "master/broker/holder.h"
#include "master/broker/journal.h"
#include "master/broker/mail.h"
#include "master/broker/table.h"

enum {
	BROKER_CLIENTS = 64, /* bits of session.cached */
	BROKER_FRAME_BUDGET = 64,
	BROKER_REAPS_MAX = 4096, /* waiting for a worker; beyond, the upstream expires it itself */
};

struct client;
struct reap;

struct broker {
	const struct role_boot *boot;
	struct ev_loop *loop;
	struct metrics_slot *metrics;
	struct table table;
	struct journal journal;
	struct mail mail;
	struct changes changes;
	struct holder holder;
	uint32_t sessions_max;
	bool orphaned; /* serves until the last worker is gone */
	struct client *clients[BROKER_CLIENTS];
	LIST_HEAD(client_dead, client) dead; /* freed when the loop turns */
	TAILQ_HEAD(reaps, reap) reaps;
	size_t reap_count;
	ev_io listener, channel;
	ev_timer tick, pause, leave;
	bool retiring; /* another is to follow: estate.h */
	ev_prepare prepare;
	struct turn turn;
};

/* Serve an accepted connection (taken over in every case). */
void client_open(struct broker *b, int fd);
/* Close it; it is freed by clients_reap, never inside its own callback. */
void client_close(struct client *c);
void clients_reap(struct broker *b);
bool clients_any(const struct broker *b);
/* The workers but `asker` (or NULL) that may cache the session, one bit each. */
uint64_t clients_caching(
    const struct broker *b, const struct session *s, const struct client *asker);
/* The worker with this pid does not turn: whoever has mail for it learns that it is not there. */
void clients_give_up(struct broker *b, int32_t pid);
/* Tell these that what they have is no longer true; `change`: which they are to answer (change.h),
 * or 0: none. */
void clients_invalidate(
    struct broker *b, const struct session_id *id, uint64_t clients, uint32_t change);
/* The reply to an update: it is in force. */
void client_confirm(struct client *c, const struct frame *asked);
/* Give a wire record to one worker, if possible one in `cached`. False when no worker is there. */
bool clients_reap_session(struct broker *b, uint64_t cached, const char *record, size_t n);
/* A worker said HELLO: reaps that waited can go out. */
void broker_reaps_send(struct broker *b);

#endif
