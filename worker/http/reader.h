/*
 * reader: one HTTP/1.x message, parsed by http-parser behind a strict guard of our own.
 *
 * First the whole head (through the empty line), then body bytes as they come. The guard refuses
 * what http-parser lets pass and what leads to request smuggling (docs/http.md has the table). A
 * message that was refused poisons its connection: answer 400 (or treat the upstream as broken),
 * close, never reuse.
 *
 * Owns nothing: spans in a head point into the bytes given to reader_head and live as long as these
 * do.
 */
#ifndef MARGAY_WORKER_HTTP_READER_H
#define MARGAY_WORKER_HTTP_READER_H

#include <http_parser.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/attributes.h"
#include "common/span.h"
#include "worker/http/field.h"
#include "worker/http/guard.h"

enum { HTTP_HEADERS_MAX = 128 };

enum reader_kind { READER_REQUEST, READER_RESPONSE };

struct http_header {
	struct span name, value; /* value without surrounding whitespace */
	enum http_field field;
};

struct http_head {
	unsigned method; /* enum http_method; requests */
	struct span
	    target; /* requests: origin-form path with query; absolute-form is reduced to it */
	struct span host; /* requests: value of Host */
	unsigned status;  /* responses */
	unsigned minor;   /* HTTP/1.minor: 0 or 1 */
	bool keep_alive;
	bool chunked;
	bool has_length;
	uint64_t content_length; /* when has_length */
	unsigned header_count;
	/* Of each field, its number in `headers` plus 1; 0: none. */
	uint8_t first[HTTP_FIELD_COUNT];
	struct http_header headers[HTTP_HEADERS_MAX];
};

struct reader_limits {
	uint32_t head_size;    /* bytes */
	uint32_t header_count; /* at most HTTP_HEADERS_MAX */
};

/* Every connection has one, idle or not: members are ordered and sized to be small. */
struct reader {
	http_parser parser;
	struct reader_limits limits;
	uint32_t start;    /* of the head: past an empty line before it */
	uint32_t scanned;  /* bytes of an incomplete head already searched for its end */
	const char *error; /* why the message was refused: a literal */
	uint16_t status;   /* what to answer a client: 400, 414, 431, 501, 505 */
	uint8_t kind;      /* enum reader_kind */
	bool head_done, message_done;
	bool repeated;        /* a field that may be there once is there twice */
	bool close_delimited; /* response body ends with the connection */
	bool chunked;
	uint64_t left; /* of a body whose length is known */
	struct guard_chunks chunks;
	struct http_head *head;                                         /* while reader_head runs */
	int (*on_body)(struct reader *reader, const char *p, size_t n); /* while reader_body runs */
};

/* Ready for the next message of a connection. */
void reader_init(struct reader *r, enum reader_kind kind, struct reader_limits limits);
/*
 * Look for a head at the start of `bytes`, which hold all unconsumed bytes of the connection.
 * Length of the head with *head filled; 0 when more bytes are needed; -EPROTO with r->error and
 * r->status set. For requests a message without a body is done at once (r->message_done). 1xx
 * responses are skipped by the caller: it sees head->status < 200 with message_done and calls
 * reader_init again.
 */
ssize_t reader_head(struct reader *r, struct span bytes, struct http_head *head) MUST_CHECK;
/*
 * Feed body bytes. `on_body` gets each decoded piece (spans into `bytes`); a non-zero return from
 * it stops with -ECANCELED. Returns the bytes consumed (fewer than given only once r->message_done:
 * the rest belongs to the next message), or -EPROTO with r->error set.
 */
ssize_t reader_body(struct reader *r, struct span bytes,
    int (*on_body)(struct reader *, const char *, size_t)) MUST_CHECK;
/* The connection ended: true when that is a proper end of this message (close-delimited response).
 */
bool reader_eof(struct reader *r);

/* No field and nothing said. */
void head_clear(struct http_head *head);
/* One more field; there must be room. It is the caller's to give it a value. */
struct http_header *head_add(struct http_head *head, struct span name);
/* The field, the first where there are several, or NULL. */
static inline const struct http_header *head_find(
    const struct http_head *head, enum http_field field)
{
	return head->first[field] > 0 ? &head->headers[head->first[field] - 1] : NULL;
}
/* Whether a comma-separated field value holds a token, ignoring case and parameters: Accept,
 * Connection. */
bool header_has_token(struct span value, struct span token);

#endif
