/* stream: see stream.h. */
#include "common/ipc/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/turn.h"

enum { KEEP_CAPACITY = 1024 * 1024 }; /* an empty buffer that grew beyond is given back */

static void end(struct stream *s, const char *why)
{
	if (!s->open)
		return;
	stream_close(s);
	s->ended(s, why);
}

static void update_events(struct stream *s)
{
	int events = EV_READ | (buffer_length(&s->out) > 0 ? EV_WRITE : 0);

	if ((s->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(s->loop, &s->io);
	ev_io_set(&s->io, s->io.fd, events);
	ev_io_start(s->loop, &s->io);
}

static void settle(struct buffer *b)
{
	if (buffer_length(b) == 0 && b->capacity > KEEP_CAPACITY)
		buffer_release(b);
}

void stream_flush(struct stream *s)
{
	struct span out = buffer_span(&s->out);

	if (!s->open || (out.n == 0 && !s->failed))
		return;
	if (s->failed) {
		end(s, "out of memory");
		return;
	}
	ssize_t n = send(s->io.fd, out.p, out.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		end(s, strerror(errno));
		return;
	}
	if (n > 0)
		buffer_consume(&s->out, (size_t)n);
	settle(&s->out);
	update_events(s);
	if (buffer_length(&s->out) == 0 && s->drained)
		s->drained(s);
}

/* Hand out the whole frames of the buffer. False when the stream is of no more use. */
static bool take_frames(struct stream *s)
{
	for (;;) {
		struct span in = buffer_span(&s->in);
		struct frame frame;
		if (in.n < sizeof(frame))
			return true;
		memcpy(&frame, in.p, sizeof(frame));
		if (frame.magic != FRAME_MAGIC || frame.version != FRAME_VERSION ||
		    frame.length > STREAM_MESSAGE_MAX) {
			end(s, "it broke the protocol");
			return false;
		}
		if (in.n - sizeof(frame) < frame.length)
			return true;
		/* Consumed only afterwards: the payload points into the buffer. */
		if (!s->frame(s, &frame, (struct span){in.p + sizeof(frame), frame.length}))
			return false;
		buffer_consume(&s->in, sizeof(frame) + frame.length);
	}
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct stream *s = container_of(io, struct stream, io);

	turn_enter("stream");
	(void)loop;
	if (events & EV_WRITE) {
		stream_flush(s);
		if (!s->open)
			return;
	}
	if (!(events & EV_READ))
		return;
	if (buffer_reserve(&s->in, STREAM_READ, 2 * (size_t)STREAM_MESSAGE_MAX)) {
		end(s, "out of memory");
		return;
	}
	ssize_t n = recv(io->fd, s->in.data + s->in.tail, STREAM_READ, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		end(s, n == 0 ? "it closed the connection" : strerror(errno));
		return;
	}
	s->in.tail += (uint32_t)n;
	if (take_frames(s))
		settle(&s->in);
}

void stream_open(struct stream *s, struct ev_loop *loop, int fd)
{
	s->loop = loop;
	s->open = true;
	s->failed = false;
	ev_io_init(&s->io, on_io, fd, EV_READ);
	ev_io_start(loop, &s->io);
}

int stream_restore(struct stream *s, struct span in, struct span out)
{
	int error = buffer_append(&s->in, in.p, in.n, 2 * (size_t)STREAM_MESSAGE_MAX);

	return error ? error : buffer_append(&s->out, out.p, out.n, 4 * (size_t)STREAM_MESSAGE_MAX);
}

void stream_close(struct stream *s)
{
	if (!s->open)
		return;
	s->open = false;
	ev_io_stop(s->loop, &s->io);
	close(s->io.fd);
	buffer_release(&s->in);
	buffer_release(&s->out);
}

void stream_begin(struct stream *s, const struct frame *frame)
{
	struct frame header = *frame;

	header.magic = FRAME_MAGIC;
	header.version = FRAME_VERSION;
	header.length = 0;
	s->message = buffer_length(&s->out);
	stream_add(s, (struct span){(const char *)&header, sizeof(header)});
}

void stream_add(struct stream *s, struct span piece)
{
	if (s->open && !s->failed &&
	    buffer_append(&s->out, piece.p, piece.n, 4 * (size_t)STREAM_MESSAGE_MAX))
		s->failed = true;
}

void stream_end(struct stream *s)
{
	if (!s->open || s->failed)
		return;
	char *at = s->out.data + s->out.head + s->message;
	uint32_t length = (uint32_t)(buffer_length(&s->out) - s->message - sizeof(struct frame));
	memcpy(at + offsetof(struct frame, length), &length, sizeof(length));
}

void stream_put(struct stream *s, const struct frame *frame, struct span payload)
{
	stream_begin(s, frame);
	stream_add(s, payload);
	stream_end(s);
}
