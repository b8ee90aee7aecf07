/*
 * output: the bytes that wait for a slow reader.
 *
 * A queue of segments, each either bytes that the queue owns or a run of filler of which only the
 * length is stored. So an answer of 64 MiB of filler costs no memory however slowly it is read:
 * the bytes are made when the descriptor takes them.
 */
#ifndef MARGAY_MASTER_DEMO_OUTPUT_H
#define MARGAY_MASTER_DEMO_OUTPUT_H

#include <bsd/sys/queue.h>
#include <stddef.h>

#include "common/attributes.h"
#include "common/span.h"

struct segment;

struct output {
	TAILQ_HEAD(segment_list, segment) segments;
	size_t owned; /* bytes in memory */
	size_t total; /* bytes to write, filler included */
};

void output_init(struct output *o);
/* Append a copy of the bytes, or `n` bytes of filler. 0 or -ENOMEM. */
int output_bytes(struct output *o, struct span bytes) MUST_CHECK;
int output_fill(struct output *o, size_t n) MUST_CHECK;
int output_printf(struct output *o, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;
/* Move everything in `from` to the end of `o`. */
void output_move(struct output *o, struct output *from);
/* Write at most `budget` bytes with one system call: 0 (look at `total`), or -errno, -EAGAIN when
 * the descriptor is full. */
int output_write(struct output *o, int fd, size_t budget) MUST_CHECK;
void output_release(struct output *o);

#endif
