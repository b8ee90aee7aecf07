/* desktop: see desktop.h. */
#include "worker/mcp/desktop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/lines.h"
#include "worker/mcp/inlet.h"
#include "worker/route.h"
#include "worker/worker.h"

enum {
	READ_SIZE = 65536,
	HIGH_WATER = 1024 * 1024, /* unread bytes that stop upstreams from being read */
	LOW_WATER = 64 * 1024,
};

struct desktop {
	struct worker *worker;
	struct inlet *inlet;
	void (*done)(struct worker *w);
	ev_io in, out;
	struct lines lines;
	struct buffer output;
	bool ended;  /* nothing more comes */
	bool over;   /* `done` was called */
	bool behind; /* the client is, with reading */
	char block[READ_SIZE];
};

static void finish(struct desktop *d)
{
	if (d->over)
		return;
	d->over = true;
	ev_io_stop(d->worker->loop, &d->in);
	inlet_close(d->inlet, true);
	d->done(d->worker);
}

static void update(struct desktop *d)
{
	struct ev_loop *loop = d->worker->loop;

	if (d->over)
		return;
	if (d->ended && inlet_is_idle(d->inlet) && buffer_length(&d->output) == 0)
		finish(d);
	else if (!d->ended && !d->behind && inlet_has_room(d->inlet))
		ev_io_start(loop, &d->in);
	else
		ev_io_stop(loop, &d->in);
}

/* --- to the client --- */

static void flush(struct desktop *d)
{
	struct span output = buffer_span(&d->output);
	ssize_t n = output.n > 0 ? write(d->out.fd, output.p, output.n) : 0;

	if (n > 0)
		buffer_consume(&d->output, (size_t)n);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		/* It is gone. */
		d->ended = true;
		buffer_release(&d->output);
		ev_io_stop(d->worker->loop, &d->out);
		finish(d);
		return;
	}
	if (buffer_length(&d->output) > 0)
		ev_io_start(d->worker->loop, &d->out);
	else
		ev_io_stop(d->worker->loop, &d->out);
	if (d->behind && !d->over && buffer_length(&d->output) < LOW_WATER) {
		d->behind = false;
		inlet_resume(d->inlet);
	}
	update(d);
}

static void on_output(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)events;
	flush(container_of(io, struct desktop, out));
}

static void on_message(struct inlet *i, struct span message)
{
	struct desktop *d = i->context;
	size_t start = buffer_length(&d->output);
	char *text;

	if (d->over)
		return;
	int error = buffer_append(&d->output, message.p, message.n, 2 * INLET_MESSAGE_MAX);
	if (!error)
		error = buffer_append(&d->output, "\n", 1, 2 * INLET_MESSAGE_MAX);
	if (error) {
		LOG(d->worker->log, LOG_LEVEL_ERROR, "a message to the client is lost",
		    LOG_UINT("bytes", message.n), LOG_ERRNO(-error));
		return;
	}
	/* Line ends in JSON can only stand between its tokens. */
	text = d->output.data + d->output.head + start;
	for (size_t n = 0; n < message.n; n++) {
		if (text[n] == '\n' || text[n] == '\r')
			text[n] = ' ';
	}
	d->behind |= buffer_length(&d->output) > HIGH_WATER;
	ev_io_start(d->worker->loop, &d->out);
}

static bool is_congested(const struct inlet *i)
{
	return ((const struct desktop *)i->context)->behind;
}

static void on_progress(struct inlet *i)
{
	update(i->context);
}

static const struct inlet_ops ops = {on_message, is_congested, on_progress};

/* --- from the client --- */

static void take_line(void *context, struct span line)
{
	struct desktop *d = context;

	if (line.n > 0)
		inlet_take(d->inlet, line);
}

static void take_too_long(void *context, struct span beginning)
{
	static const struct span refusal = {
	    "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"The message "
	    "is longer than limits.body_size\"}}",
	    103};
	struct desktop *d = context;

	(void)beginning;
	on_message(d->inlet, refusal);
}

static const struct lines_ops line_ops = {take_line, take_too_long};

static void on_input(struct ev_loop *loop, ev_io *io, int events)
{
	struct desktop *d = container_of(io, struct desktop, in);

	(void)events;
	ssize_t n = read(io->fd, d->block, sizeof(d->block));
	if (n > 0) {
		lines_feed(&d->lines, (struct span){d->block, (size_t)n}, &line_ops, d);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		/* The last line may have no end. */
		lines_feed(&d->lines, SPAN("\n"), &line_ops, d);
		d->ended = true;
		ev_io_stop(loop, io);
	}
	update(d);
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int desktop_open(struct worker *w, void (*done)(struct worker *w), struct desktop **out)
{
	struct desktop *d = calloc(1, sizeof(*d));
	int error;

	if (!d)
		return -ENOMEM;
	d->worker = w;
	d->done = done;
	d->lines.max = w->config->limits.body_size;
	if ((error = set_nonblocking(STDIN_FILENO)) || (error = set_nonblocking(STDOUT_FILENO)) ||
	    !(d->inlet = inlet_open(w, w->routes[0].config->path, NULL, &ops, d))) {
		free(d);
		return error ? error : -ENOMEM;
	}
	ev_io_init(&d->in, on_input, STDIN_FILENO, EV_READ);
	ev_io_init(&d->out, on_output, STDOUT_FILENO, EV_WRITE);
	ev_io_start(w->loop, &d->in);
	*out = d;
	return 0;
}

void desktop_drain(struct desktop *d)
{
	finish(d);
}

void desktop_close(struct desktop *d)
{
	struct ev_loop *loop = d->worker->loop;

	ev_io_stop(loop, &d->in);
	ev_io_stop(loop, &d->out);
	if (!d->over)
		inlet_close(d->inlet, true);
	buffer_release(&d->lines.part);
	buffer_release(&d->output);
	free(d);
}
