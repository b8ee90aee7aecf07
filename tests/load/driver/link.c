/* link: see link.h. */
#include "tests/load/driver/link.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 64 * 1024 };

static void link_connect(struct link *l);

static void lose(struct link *l, enum failure what, const char *detail)
{
	unsigned port = link_port(l);

	link_close(l);
	l->ops->lost(l, what, detail, port);
}

static enum failure failure_of(int error)
{
	if (error == ECONNREFUSED)
		return FAILURE_REFUSED;
	return error == ECONNRESET || error == EPIPE ? FAILURE_RESET : FAILURE_LOCAL;
}

/* Write what is left of the request. */
static void link_write(struct link *l, bool was_idle)
{
	ssize_t n = send(l->fd, l->rest.p, l->rest.n, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		if (was_idle) { /* gone before anything was sent: as if it had been seen in time */
			link_close(l);
			l->ops->idle_closed(l);
			link_connect(l);
			return;
		}
		lose(l, failure_of(errno), strerror(errno));
		return;
	}
	size_t sent = n > 0 ? (size_t)n : 0;
	l->rest = (struct span){l->rest.p + sent, l->rest.n - sent};
	if (l->rest.n > 0)
		ev_io_start(l->loop, &l->writable);
	else if (ev_is_active(&l->writable))
		ev_io_stop(l->loop, &l->writable);
}

static void connected(struct link *l)
{
	l->state = LINK_BUSY;
	ev_io_start(l->loop, &l->readable);
	l->ops->connected(l);
	link_write(l, false);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct link *l = container_of(watcher, struct link, writable);
	int error = 0;
	socklen_t length = sizeof(error);

	(void)loop;
	(void)events;
	if (l->state != LINK_CONNECTING) {
		link_write(l, false);
		return;
	}
	getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error)
		lose(l, failure_of(error), strerror(error));
	else
		connected(l);
}

static void answered(struct link *l)
{
	bool rest = buffer_length(&l->in) > 0;

	if (rest) {
		lose(l, FAILURE_BAD, "more bytes than the answer has");
		return;
	}
	l->state = LINK_IDLE;
	if (l->answer.close)
		link_close(l);
	l->ops->done(l);
}

static void on_end(struct link *l)
{
	if (l->state == LINK_IDLE) {
		link_close(l);
		l->ops->idle_closed(l);
	} else if (buffer_length(&l->in) == 0 && message_eof(&l->answer)) {
		answered(l);
	} else {
		lose(l, FAILURE_CLOSED,
		    message_begun(&l->answer) ? "within the answer" : "no answer");
	}
}

static void on_bytes(struct link *l)
{
	if (l->state == LINK_IDLE) {
		lose(l, FAILURE_BAD, "bytes that nobody asked for");
		return;
	}
	ssize_t used = message_feed(&l->answer, buffer_span(&l->in));
	if (used < 0) {
		lose(l, FAILURE_BAD, l->answer.error ? l->answer.error : "refused");
		return;
	}
	buffer_consume(&l->in, (size_t)used);
	if (l->answer.state == MESSAGE_DONE)
		answered(l);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct link *l = container_of(watcher, struct link, readable);

	(void)loop;
	(void)events;
	if (buffer_reserve(&l->in, READ_SIZE, MESSAGE_HEAD_MAX + 2 * READ_SIZE)) {
		lose(l, FAILURE_LOCAL, "no memory");
		return;
	}
	ssize_t n = read(l->fd, l->in.data + l->in.tail, READ_SIZE);
	if (n > 0) {
		l->in.tail += (uint32_t)n;
		on_bytes(l);
	} else if (n == 0 || l->state == LINK_IDLE) {
		if (n == 0 || errno != EAGAIN)
			on_end(l);
	} else if (errno != EAGAIN && errno != EINTR) {
		lose(l, failure_of(errno), strerror(errno));
	}
}

static void link_connect(struct link *l)
{
	int one = 1;

	l->state = LINK_CONNECTING;
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0) {
		lose(l, FAILURE_LOCAL, strerror(errno));
		return;
	}
	setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	ev_io_init(&l->readable, on_readable, l->fd, EV_READ);
	ev_io_init(&l->writable, on_writable, l->fd, EV_WRITE);
	/* What has come is looked at before a timer sends more or gives up. */
	ev_set_priority(&l->readable, EV_MAXPRI);
	if (connect(l->fd, (const struct sockaddr *)l->address, sizeof(*l->address)) == 0)
		connected(l);
	else if (errno == EINPROGRESS)
		ev_io_start(l->loop, &l->writable);
	else
		lose(l, failure_of(errno), strerror(errno));
}

void link_init(struct link *l, struct ev_loop *loop, const struct sockaddr_in *address,
    const struct link_ops *ops)
{
	*l = (struct link){.ops = ops, .loop = loop, .address = address, .fd = -1};
}

void link_send(struct link *l, struct span request)
{
	l->rest = request;
	message_init(&l->answer, MESSAGE_RESPONSE, &l->ops->answer);
	if (l->state == LINK_CLOSED) {
		link_connect(l);
		return;
	}
	l->state = LINK_BUSY;
	link_write(l, true);
}

void link_close(struct link *l)
{
	if (l->fd >= 0) {
		ev_io_stop(l->loop, &l->readable);
		ev_io_stop(l->loop, &l->writable);
		close(l->fd);
	}
	buffer_release(&l->in);
	l->fd = -1;
	l->state = LINK_CLOSED;
}

unsigned link_port(const struct link *l)
{
	struct sockaddr_in local = {0};
	socklen_t length = sizeof(local);

	if (l->fd < 0 || getsockname(l->fd, (struct sockaddr *)&local, &length))
		return 0;
	return ntohs(local.sin_port);
}
