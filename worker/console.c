/* console: see console.h. */
#include "worker/console.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/turn.h"

enum { HIGH_WATER = 1024 * 1024, LOW_WATER = 64 * 1024 };

static void flush(struct console *c)
{
	struct span output = buffer_span(&c->output);
	ssize_t n = output.n > 0 ? write(c->out.fd, output.p, output.n) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		console_close(c);
		c->ops->lost(c);
		return;
	}
	if (n > 0)
		buffer_consume(&c->output, (size_t)n);
	if (buffer_length(&c->output) == 0)
		ev_io_stop(c->loop, &c->out);
	if (buffer_length(&c->output) > (c->congested ? LOW_WATER : 0))
		return;
	c->congested = false;
	c->ops->drained(c);
}

static void on_output(struct ev_loop *loop, ev_io *io, int events)
{
	turn_enter("console");
	(void)loop;
	(void)events;
	flush(container_of(io, struct console, out));
}

int console_say(struct console *c, struct span message)
{
	size_t start = buffer_length(&c->output);

	if (c->closed)
		return 0;
	int error = buffer_reserve(&c->output, message.n + 1, CONSOLE_OUT_MAX);
	if (!error)
		error = buffer_append(&c->output, message.p, message.n, CONSOLE_OUT_MAX);
	if (!error)
		error = buffer_append(&c->output, "\n", 1, CONSOLE_OUT_MAX);
	if (error)
		return error;
	/* Line ends in JSON can only stand between its tokens. */
	char *text = c->output.data + c->output.head + start;
	for (size_t i = 0; i < message.n; i++) {
		if (text[i] == '\n' || text[i] == '\r')
			text[i] = ' ';
	}
	c->congested |= buffer_length(&c->output) > HIGH_WATER;
	ev_io_start(c->loop, &c->out);
	return 0;
}

static void take_line(void *context, struct span line)
{
	struct console *c = context;

	if (line.n > 0 && !c->closed)
		c->ops->line(c, line);
}

static void take_too_long(void *context, struct span beginning)
{
	struct console *c = context;

	(void)beginning;
	if (!c->closed)
		c->ops->too_long(c);
}

static void on_input(struct ev_loop *loop, ev_io *io, int events)
{
	static const struct lines_ops ops = {take_line, take_too_long};
	struct console *c = container_of(io, struct console, in);

	turn_enter("console");
	(void)events;
	ssize_t n = read(io->fd, c->block, sizeof(c->block));
	if (n > 0) {
		lines_feed(&c->lines, (struct span){c->block, (size_t)n}, &ops, c);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		ev_io_stop(loop, io);
		c->ended = true;
		/* The last line may have no end. */
		lines_feed(&c->lines, SPAN("\n"), &ops, c);
		if (!c->closed)
			c->ops->ended(c);
	}
}

void console_read(struct console *c, bool on)
{
	if (on && !c->ended && !c->closed)
		ev_io_start(c->loop, &c->in);
	else
		ev_io_stop(c->loop, &c->in);
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int console_open(
    struct console *c, struct ev_loop *loop, size_t line_max, const struct console_ops *ops)
{
	int error;

	if ((error = set_nonblocking(STDIN_FILENO)) || (error = set_nonblocking(STDOUT_FILENO)))
		return error;
	c->loop = loop;
	c->ops = ops;
	c->lines.max = line_max;
	ev_io_init(&c->in, on_input, STDIN_FILENO, EV_READ);
	ev_io_init(&c->out, on_output, STDOUT_FILENO, EV_WRITE);
	ev_io_start(loop, &c->in);
	return 0;
}

void console_close(struct console *c)
{
	if (c->closed)
		return;
	c->closed = true;
	ev_io_stop(c->loop, &c->in);
	ev_io_stop(c->loop, &c->out);
	buffer_release(&c->output);
	/* The line that is being taken may lie in it. */
	if (c->ended)
		buffer_release(&c->lines.part);
}
