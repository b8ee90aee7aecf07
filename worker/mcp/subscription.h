/*
 * subscription: the resources of a legacy upstream that a feed hears of, each subscribed to once
 * however many listeners want it.
 */
#ifndef MARGAY_WORKER_MCP_SUBSCRIPTION_H
#define MARGAY_WORKER_MCP_SUBSCRIPTION_H

#include "worker/mcp/fanout.h"
#include "worker/mcp/liaison.h"
#include "worker/upstream/upstream.h"
#include "worker/http/sse.h"

enum { FEED_LISTS = 3 };

TAILQ_HEAD(subscriber_list, subscriber);
TAILQ_HEAD(subscription_list, subscription);

/* See feed.h; here are the two that share it. */
struct feed {
	LIST_ENTRY(feed) link; /* worker's feeds, or closed_feeds */
	struct upstream *upstream;
	struct liaison_wait wait;
	struct session_record record; /* without state */
	struct upstream_call call;    /* its stream */
	struct sse_data events;
	struct fanout fanout; /* to those who were acknowledged; of notices, see feed.c */
	/* The others, and who of them is to be looked at next. NULL: all were. */
	struct subscriber_list waiting;
	struct subscriber *next;
	bool once_more; /* what they wait for changed meanwhile */
	bool failing;   /* they are to be told that it failed, and why */
	int reason;
	char detail[128];
	struct subscription_list subscriptions;
	struct timeout again, more;
	bool announced[FEED_LISTS], subscribes; /* what the upstream can do */
	bool open;                              /* the session is there */
	bool streaming, refused;                /* its stream; it offers none */
	bool gap;                               /* something may have been missed */
};

/* One more, or one less, wants each of these; `uris` is a raw array, or empty. */
void subscriptions_add(struct feed *f, struct span uris);
void subscriptions_drop(struct feed *f, struct span uris);
/* All of them are answered. */
bool subscriptions_settled(const struct feed *f, struct span uris);
bool subscription_is_kept(const struct feed *f, struct span uri);
/* The session is there, or anew: subscribe to all. */
void subscriptions_ask_all(struct feed *f);
/* The session is gone, and they with it. */
void subscriptions_forget(struct feed *f);
void subscriptions_close(struct feed *f);
void subscriptions_free(struct feed *f);
/* In feed.c: one was answered. */
void feed_subscriptions_changed(struct feed *f);

#endif
