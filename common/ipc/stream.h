/*
 * stream: frames over a byte stream, many to a system call.
 *
 * For traffic that SEQPACKET would cost a call for each message and bound to 64 KiB: workers and
 * the keeper. What is put is gathered and written by stream_flush, once for each turn of the loop;
 * what arrives is read in blocks and handed out frame by frame. Header and checks as in frame.h.
 */
#ifndef MARGAY_COMMON_IPC_STREAM_H
#define MARGAY_COMMON_IPC_STREAM_H

#include <ev.h>
#include <stdbool.h>

#include "common/buffer.h"
#include "common/ipc/frame.h"

enum {
	STREAM_MESSAGE_MAX = 72 * 1024 * 1024, /* bytes of a payload: the longest line and a bit */
	STREAM_READ = 256 * 1024,              /* bytes read per wake-up */
};

struct stream {
	ev_io io;
	struct ev_loop *loop;
	struct buffer in, out;
	size_t message; /* where the frame being put begins, from out's head */
	bool failed;    /* what was put did not fit into memory: of no more use */
	bool open;
	void *context;
	/* Runs for each frame; false to stop: the stream was closed or its owner is gone. */
	bool (*frame)(struct stream *s, const struct frame *frame, struct span payload);
	/* The other side is gone or broke the protocol. Runs at most once, never inside `frame`. */
	void (*ended)(struct stream *s, const char *why);
	/* All that was put is written. May be NULL. */
	void (*drained)(struct stream *s);
};

/* Take over a connected, non-blocking socket. `context` and the callbacks are set by the caller. */
void stream_open(struct stream *s, struct ev_loop *loop, int fd);
/* Go on where another process stopped: with what it had read of a frame and not written yet. 0 or
 * -errno. */
int stream_restore(struct stream *s, struct span in, struct span out) MUST_CHECK;
/* Close the socket and forget what was not written. Harmless when it is not open. */
void stream_close(struct stream *s);
/* Put one frame: begin, add its payload piece by piece, end (which fills in the length). */
void stream_begin(struct stream *s, const struct frame *frame);
void stream_add(struct stream *s, struct span piece);
void stream_end(struct stream *s);
/* The three in one. */
void stream_put(struct stream *s, const struct frame *frame, struct span payload);
/* Bytes that wait for the other side to read. */
static inline size_t stream_waiting(const struct stream *s)
{
	return buffer_length(&s->out);
}
/* Write what was put; the rest when the socket takes more. `ended` may run. */
void stream_flush(struct stream *s);

#endif
