/*
 * http: the reader gives the same verdict whole and cut at any byte, and never what a naive reader
 * would see otherwise.
 *
 * The first byte chooses request or response and where the second run is cut. What is accepted is
 * checked against the promises of worker/http/reader.h.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/http/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	ssize_t head, consumed;
	unsigned status, method;
	size_t body_length;
	uint32_t body_sum;
	bool done;
};

static struct outcome *collecting;

static int on_body(struct reader *r, const char *p, size_t n)
{
	(void)r;
	for (size_t i = 0; i < n; i++)
		collecting->body_sum = collecting->body_sum * 31 + (unsigned char)p[i];
	collecting->body_length += n;
	return 0;
}

static void check_head(const struct http_head *head, enum reader_kind kind)
{
	for (unsigned i = 0; i < head->header_count; i++) {
		const struct http_header *h = &head->headers[i];
		if (h->name.n == 0 || memchr(h->name.p, ' ', h->name.n) ||
		    memchr(h->value.p, '\n', h->value.n) || memchr(h->value.p, '\0', h->value.n))
			abort();
	}
	if (head->chunked && (head->has_length || head->minor == 0))
		abort();
	if (kind == READER_REQUEST && (head->host.n == 0 || head->target.n == 0 ||
					  (head->target.p[0] != '/' && head->target.p[0] != '*')))
		abort();
}

/* Feed `text` in steps of `step` bytes. */
static struct outcome run(enum reader_kind kind, struct span text, size_t step)
{
	static struct http_head head;
	struct outcome out = {0};
	struct reader r;
	size_t given = step < text.n ? step : text.n;

	reader_init(&r, kind, (struct reader_limits){4096, 32});
	while ((out.head = reader_head(&r, (struct span){text.p, given}, &head)) == 0 &&
	       given < text.n)
		given = text.n - given > step ? given + step : text.n;
	if (out.head <= 0) {
		out.status = out.head < 0 ? r.status : 0;
		return out;
	}
	check_head(&head, kind);
	out.method = head.method;
	out.status = head.status;
	out.consumed = out.head;
	collecting = &out;
	while (!r.message_done && (size_t)out.consumed < text.n) {
		size_t left = text.n - (size_t)out.consumed, n = left < step ? left : step;
		ssize_t used = reader_body(&r, (struct span){text.p + out.consumed, n}, on_body);
		if (used < 0) {
			out.consumed = -1;
			return out;
		}
		out.consumed += used;
	}
	out.done = r.message_done;
	return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	enum reader_kind kind = data[0] & 1 ? READER_RESPONSE : READER_REQUEST;
	size_t step = 1 + (data[0] >> 1) % 32;
	/* A copy of its own, so that a read past the end is seen. */
	char *copy = malloc(size - 1);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	struct span text = {copy, size - 1};
	struct outcome whole = run(kind, text, text.n), cut = run(kind, text, step);
	/* A refused head may be refused at an earlier byte when it comes in pieces, but it is
	 * refused. */
	if ((whole.head > 0) != (cut.head > 0) ||
	    (whole.head > 0 && memcmp(&whole.head, &cut.head, sizeof(whole.head)) != 0))
		abort();
	if (whole.head > 0 && whole.consumed != -1 &&
	    (whole.consumed != cut.consumed || whole.body_sum != cut.body_sum ||
		whole.done != cut.done || whole.method != cut.method ||
		whole.body_length != cut.body_length))
		abort();
	if (whole.consumed == -1 && cut.consumed != -1)
		abort();
	free(copy);
	return 0;
}
