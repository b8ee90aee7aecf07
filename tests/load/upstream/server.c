/* server: see server.h. */
#include "tests/load/upstream/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/load/upstream/conn.h"
#include "tests/load/upstream/stream.h"

enum { BACKLOG = 4096, ACCEPT_BUDGET = 64 };

static void on_accept(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct server *s = container_of(watcher, struct server, accept);
	int one = 1;

	(void)loop;
	(void)events;
	for (int n = 0; n < ACCEPT_BUDGET; n++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		conn_open(s, fd);
	}
}

static void on_tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct server *s = container_of(watcher, struct server, tick);

	(void)loop;
	(void)events;
	sessions_tick(&s->sessions);
	streams_tick(s);
}

static void bury(struct server *s)
{
	struct conn *c;

	while ((c = LIST_FIRST(&s->dead))) {
		LIST_REMOVE(c, link);
		conn_free(c);
	}
}

static void on_bury(struct ev_loop *loop, ev_prepare *watcher, int events)
{
	(void)loop;
	(void)events;
	bury(container_of(watcher, struct server, bury));
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static int bind_loopback(struct server *s)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)s->options.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int one = 1;

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return -errno;
	setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s->fd, (struct sockaddr *)&address, length) || listen(s->fd, BACKLOG) ||
	    getsockname(s->fd, (struct sockaddr *)&address, &length))
		return -errno;
	s->options.port = ntohs(address.sin_port);
	return 0;
}

int server_start(struct server *s)
{
	double every = s->options.every / 1000.0;

	s->sessions.max = s->options.sessions;
	int error = buffer_reserve(&s->text, s->options.bytes, s->options.bytes);
	if (!error)
		error = bind_loopback(s);
	if (error)
		return error;
	memset(s->text.data, 'x', s->options.bytes);
	s->text.tail = (uint32_t)s->options.bytes;
	ev_io_init(&s->accept, on_accept, s->fd, EV_READ);
	ev_io_start(s->loop, &s->accept);
	ev_timer_init(&s->tick, on_tick, every, every);
	ev_timer_start(s->loop, &s->tick);
	ev_prepare_init(&s->bury, on_bury);
	ev_prepare_start(s->loop, &s->bury);
	ev_signal_init(&s->terminate, on_signal, SIGTERM);
	ev_signal_start(s->loop, &s->terminate);
	ev_signal_init(&s->interrupt, on_signal, SIGINT);
	ev_signal_start(s->loop, &s->interrupt);
	return 0;
}

void server_stop(struct server *s)
{
	while (!LIST_EMPTY(&s->conns))
		conn_close(LIST_FIRST(&s->conns));
	bury(s);
	while (s->sessions.table)
		session_end(&s->sessions, s->sessions.table);
	if (s->fd >= 0)
		close(s->fd);
	buffer_release(&s->text);
}
