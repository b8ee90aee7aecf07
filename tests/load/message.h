/*
 * message: one HTTP/1.1 message as it comes, for the load driver and its upstream.
 *
 * Strict, and not the reader that Margay itself uses, so that what both sides of Margay send is
 * judged by somebody else: anything unusual is a refusal. Known framings are Content-Length,
 * chunked without extensions and trailers, and, for responses, the end of the connection. Owns
 * nothing; spans given to callbacks point into the bytes that were fed.
 */
#ifndef MARGAY_TESTS_LOAD_MESSAGE_H
#define MARGAY_TESTS_LOAD_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/attributes.h"
#include "common/span.h"

enum { MESSAGE_HEAD_MAX = 16384 };

enum message_kind { MESSAGE_REQUEST, MESSAGE_RESPONSE };

enum message_state {
	MESSAGE_HEAD,
	MESSAGE_LENGTH,
	MESSAGE_CHUNK_SIZE,
	MESSAGE_CHUNK,
	MESSAGE_CHUNK_END,
	MESSAGE_LAST_CHUNK_END,
	MESSAGE_UNTIL_CLOSE,
	MESSAGE_DONE
};

struct message;

/* NULL where the user does not care. A non-zero return stops the reading. */
struct message_ops {
	void (*field)(struct message *m, struct span name, struct span value);
	int (*head)(struct message *m);
	int (*body)(struct message *m, struct span piece);
};

struct message {
	const struct message_ops *ops;
	const char *error; /* why it was refused: a literal */
	uint64_t left;     /* of the body or chunk */
	struct span verb;  /* requests, while the head's callbacks run */
	struct span target;
	unsigned status; /* responses */
	enum message_kind kind;
	enum message_state state;
	bool close; /* the connection ends with this message */
	bool chunked, has_length;
	bool event_stream; /* by its Content-Type */
	bool json;
};

void message_init(struct message *m, enum message_kind kind, const struct message_ops *ops);
/*
 * Take from `bytes` until they end or the message does (MESSAGE_DONE). Returns how many were taken:
 * those that were not, an incomplete head or chunk size, are to be given again with what follows.
 * -EPROTO with m->error, or -ECANCELED when a callback said so. Interim (1xx) responses are
 * skipped.
 */
ssize_t message_feed(struct message *m, struct span bytes) MUST_CHECK;
/* Whether nothing of it came yet. */
static inline bool message_begun(const struct message *m)
{
	return m->state != MESSAGE_HEAD;
}
/* The connection ended: whether that ends the message properly. */
bool message_eof(const struct message *m);

#endif
