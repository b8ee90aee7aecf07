/*
 * link: what one session has with its child: its open streams, what it subscribed to, what it was
 * asked, and what waits until it opens a stream.
 *
 * A child of its own has one link, a shared one many. All lists are bounded.
 */
#ifndef MARGAY_MASTER_KEEPER_LINK_H
#define MARGAY_MASTER_KEEPER_LINK_H

#include "common/session_id.h"
#include "master/keeper/instance.h"

enum {
	LINK_TEXT_MAX = 8192,
	LINK_HELD_MAX = 64,
	LINK_ASKS_MAX = 64,
	LINK_URIS_MAX = 256,
	LINK_OUTLETS_MAX = 64
};

/* A stream outside of requests (GET) that the session has open at some worker. */
struct outlet {
	TAILQ_ENTRY(outlet) link;
	TAILQ_ENTRY(outlet) by_peer;
	struct link *session;
	struct peer *peer;
	uint32_t request;
};

/* A text of the session's: a URI, the id of a question, or a message that is held. */
struct text {
	TAILQ_ENTRY(text) link;
	double since; /* clock_coarse() */
	size_t n;
	char p[];
};

TAILQ_HEAD(text_list, text);

struct link {
	UT_hash_handle hh; /* instance's links, by session */
	struct session_id session;
	struct instance *instance;
	TAILQ_HEAD(outlet_list, outlet) outlets;
	struct text_list uris, asks, held;
	unsigned outlet_count, uri_count, ask_count, held_count, requests;
	size_t held_bytes;
};

/* The session's link, made when it is not there. NULL when memory is short. */
struct link *link_get(struct instance *i, const struct session_id *session);
struct link *link_find(struct instance *i, const struct session_id *session);
/* Forget all that belongs to it; its calls go on without anybody who waits. */
void link_free(struct link *l);
/* Tell the session's open streams that there will be no more. */
void link_end_streams(struct link *l);

/* What the sessions of a shared child subscribed to goes to its page, and comes back from there. */
void links_keep(struct instance *i);
int links_restore(struct instance *i) MUST_CHECK;

struct outlet *outlet_create(struct link *l, struct peer *p, uint32_t request);
void outlet_free(struct outlet *o);

/* Remember a text; false when there are `max` or memory is short. */
bool text_add(struct text_list *list, unsigned *count, unsigned max, struct span text) MUST_CHECK;
struct text *text_find(const struct text_list *list, struct span text);
void text_free(struct text_list *list, unsigned *count, struct text *t);

/* Hold a message until a stream is opened. False when too much is held. */
bool link_hold(struct link *l, struct span message) MUST_CHECK;
/* Give what is held to the stream that was opened. */
void link_release(struct link *l);
/* Refuse what was held for too long. */
void link_expire(struct link *l, double now);

#endif
