/*
 * replay: what was said on the stream of a legacy client's request to a stateless upstream, for a
 * client that lost its connection (S/2025-11-25/basic/transports.mdx, Resumability and Redelivery).
 *
 * Each event has an id: the box of the errand, and a number. A GET with Last-Event-ID, at any
 * worker, finds the errand by its box and gets what came after, and then the rest as it comes
 * (resume.h). An answer that takes long begins with an event that only tells an id. Kept in the
 * errand's worker, bounded. It outlives the errand for a minute when nobody was there to hear the
 * answer; else for ten seconds, as what was given to the kernel may never have arrived.
 */
#ifndef MARGAY_WORKER_MCP_REPLAY_H
#define MARGAY_WORKER_MCP_REPLAY_H

#include "worker/mcp/errand.h"

enum { REPLAY_ID_MAX = 48 };

/* What a GET asks for; what it gets. `message` is within the mail. */
struct replay_ask {
	struct session_id session;
	struct mail_box_id reader;
	uint32_t after;
};
struct replay_event {
	uint32_t number;
	bool last;
	struct span message;
};

/* The id of an event, as text; and back. False when the text is none of ours. */
void replay_id_format(const struct mail_box_id *box, uint32_t number, char out[REPLAY_ID_MAX]);
bool replay_id_parse(struct span text, struct mail_box_id *box, uint32_t *number) MUST_CHECK;

/* The errand's request was sent: its stream begins by itself when the answer takes long. */
void replay_expect(struct errand *r);
/* Keep a message that is given now or would be. Afterwards r->replay, if memory is there. */
void replay_keep(struct errand *r, struct span message, bool last);
/* The line that the message kept last has before it; empty: it has no id. Valid until the next. */
struct span replay_line(struct errand *r);
/* Give the message kept last to the reader at another worker. */
void replay_mail(struct errand *r);
/* The errand is over. */
void replay_leave(struct errand *r);
void replay_timeouts_init(struct worker *w);
/* An answer waits for its client to come back. */
bool replays_awaited(const struct worker *w);
void replays_close(struct worker *w);

/* The wire form of both. 0 or -ENOMEM; false when the mail is none. */
int replay_ask_put(const struct replay_ask *ask, struct buffer *out) MUST_CHECK;
bool replay_event_get(struct span mail, struct replay_event *out) MUST_CHECK;

#endif
