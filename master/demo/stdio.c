/* stdio: see stdio.h. */
#include "master/demo/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "master/demo/call.h"
#include "master/demo/session.h"

enum { WRITE_BUDGET = 64 << 10, NOTIFY_BUDGET = 64, HIGH_WATER = 256 << 10, LOW_WATER = 64 << 10 };

static void stdio_fail(struct exchange *x)
{
	container_of(x, struct stdio_server, exchange)->failed = true;
}

static void stdio_send(struct exchange *x, const struct message *m)
{
	struct stdio_server *io = container_of(x, struct stdio_server, exchange);

	if (m && (message_output(m, &io->out) != 0 || output_bytes(&io->out, SPAN("\n")) != 0))
		io->failed = true;
}

static const struct exchange_ops operations = {stdio_send, stdio_send, stdio_fail};

static void line_refuse(struct stdio_server *io, const char *text)
{
	io->exchange.pending++;
	exchange_error(&io->exchange, NULL, RPC_PARSE_ERROR, text);
}

static void line_run(struct stdio_server *io, struct span line)
{
	struct incoming in;

	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (line.n == 0)
		return;
	if (incoming_parse(line, &in) != 0) {
		line_refuse(io, "The line is not JSON");
		return;
	}
	protocol_dispatch(io->server, &io->exchange, &in);
	incoming_release(&in);
}

/* Keep the beginning of a line, unless it is too long already. */
static void line_keep(struct stdio_server *io, struct span part)
{
	if (io->too_long || part.n == 0)
		return;
	int error = buffer_append(&io->line, part.p, part.n, INCOMING_MAX);
	if (error == -EMSGSIZE) {
		io->too_long = true;
		buffer_release(&io->line);
		line_refuse(io, "The line is too long");
	} else if (error) {
		io->failed = true;
	}
}

/* The line ends with this part. */
static void line_end(struct stdio_server *io, struct span part)
{
	if (buffer_length(&io->line) > 0 || part.n > INCOMING_MAX) {
		line_keep(io, part);
		part = buffer_span(&io->line);
	}
	if (!io->too_long && !io->failed)
		line_run(io, part);
	io->too_long = false;
	buffer_release(&io->line);
}

static void input_run(struct stdio_server *io, struct span bytes)
{
	while (bytes.n > 0) {
		const char *newline = memchr(bytes.p, '\n', bytes.n);

		if (!newline) {
			line_keep(io, bytes);
			return;
		}
		size_t n = (size_t)(newline - bytes.p);
		line_end(io, (struct span){bytes.p, n});
		bytes = (struct span){newline + 1, bytes.n - n - 1};
	}
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct stdio_server *io = container_of(watcher, struct stdio_server, readable);

	(void)events;
	ssize_t n = read(watcher->fd, io->input, sizeof(io->input));
	if (n > 0) {
		input_run(io, (struct span){io->input, (size_t)n});
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		/* What follows the last newline counts as a line. */
		line_end(io, (struct span){"", 0});
		io->ended = true;
		ev_io_stop(loop, watcher);
		call_abandon_asks(&io->exchange);
	}
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)events;
	ev_io_stop(loop, watcher);
}

static void on_idle(struct ev_loop *loop, ev_idle *idle, int events)
{
	(void)loop;
	(void)idle;
	(void)events;
}

static void stdio_flush(struct stdio_server *io)
{
	if (io->out.total == 0 || ev_is_active(&io->writable))
		return;
	int error = output_write(&io->out, io->writable.fd, WRITE_BUDGET);
	if (error == -EAGAIN)
		ev_io_start(io->server->loop, &io->writable);
	else if (error)
		io->failed = true;
}

/* A client that doesn't read is not read either. */
static void stdio_balance(struct stdio_server *io)
{
	if (io->ended)
		return;
	if (io->out.owned > HIGH_WATER)
		ev_io_stop(io->server->loop, &io->readable);
	else if (io->out.owned < LOW_WATER)
		ev_io_start(io->server->loop, &io->readable);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	struct stdio_server *io = container_of(prepare, struct stdio_server, prepare);

	(void)events;
	bool more = session_notify(&io->server->sessions, NOTIFY_BUDGET);
	stdio_flush(io);
	stdio_balance(io);
	if (io->out.total > 0 && !ev_is_active(&io->writable))
		more = true;
	if (io->failed || (io->ended && io->exchange.pending == 0 && io->out.total == 0)) {
		ev_break(loop, EVBREAK_ALL);
		more = true;
	}
	if (more)
		ev_idle_start(loop, &io->idle);
	else
		ev_idle_stop(loop, &io->idle);
}

int stdio_start(struct stdio_server *io, struct server *server, int in, int out)
{
	struct session *s;

	*io = (struct stdio_server){.server = server};
	io->flags = fcntl(out, F_GETFL);
	if (io->flags < 0 || fcntl(out, F_SETFL, io->flags | O_NONBLOCK) != 0)
		return -errno;
	int error = session_create(&server->sessions, &s);
	if (error) {
		(void)fcntl(out, F_SETFL, io->flags);
		return error;
	}
	exchange_init(&io->exchange, &operations);
	output_init(&io->out);
	session_enter(s, &io->exchange);
	session_stream(s, &io->exchange);
	ev_io_init(&io->readable, on_readable, in, EV_READ);
	ev_io_init(&io->writable, on_writable, out, EV_WRITE);
	ev_prepare_init(&io->prepare, on_prepare);
	ev_idle_init(&io->idle, on_idle);
	ev_io_start(server->loop, &io->readable);
	ev_prepare_start(server->loop, &io->prepare);
	return 0;
}

void stdio_stop(struct stdio_server *io)
{
	struct ev_loop *loop = io->server->loop;

	exchange_close(&io->exchange);
	output_release(&io->out);
	buffer_release(&io->line);
	ev_io_stop(loop, &io->readable);
	ev_io_stop(loop, &io->writable);
	ev_prepare_stop(loop, &io->prepare);
	ev_idle_stop(loop, &io->idle);
	/* The terminal or pipe may be shared with the shell. */
	(void)fcntl(io->writable.fd, F_SETFL, io->flags);
}
