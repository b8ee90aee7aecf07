/* http: see http.h. */
#include "master/demo/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

enum { ACCEPT_BUDGET = 8, READY_BUDGET = 256, NOTIFY_BUDGET = 64, BACKLOG = 511 };

static const double idle_seconds = 75, request_seconds = 30, write_seconds = 30, linger_seconds = 2,
		    accept_pause_seconds = 0.1;

static void accept_paused(struct http_server *http)
{
	ev_io_stop(http->loop, &http->acceptable);
	ev_timer_again(http->loop, &http->accept_pause);
}

static void on_accept_pause(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct http_server *http = container_of(timer, struct http_server, accept_pause);

	(void)events;
	if (http->count >= HTTP_CONNECTIONS_MAX)
		return;
	ev_timer_stop(loop, timer);
	ev_io_start(loop, &http->acceptable);
}

static void on_acceptable(struct ev_loop *loop, ev_io *io, int events)
{
	struct http_server *http = container_of(io, struct http_server, acceptable);
	int yes = 1;

	(void)loop;
	(void)events;
	for (int i = 0; i < ACCEPT_BUDGET; i++) {
		if (http->count >= HTTP_CONNECTIONS_MAX) {
			accept_paused(http);
			return;
		}
		int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			/* Anything else concerns the one connection that was not accepted. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			    errno == ENOBUFS)
				accept_paused(http);
			return;
		}
		/* Without it an answer is only later, not wrong. */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof(yes));
		if (connection_open(http, fd) != 0) {
			accept_paused(http);
			return;
		}
	}
}

static void on_idle(struct ev_loop *loop, ev_idle *idle, int events)
{
	(void)loop;
	(void)idle;
	(void)events;
}

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	struct http_server *http = container_of(prepare, struct http_server, prepare);
	struct connection *c, *again = NULL;

	(void)events;
	bool more = session_notify(&http->server->sessions, NOTIFY_BUDGET);
	for (int i = 0; i < READY_BUDGET && (c = TAILQ_FIRST(&http->ready)) != again; i++) {
		TAILQ_REMOVE(&http->ready, c, ready_link);
		c->ready = false;
		if (!connection_run(c) || c->ready)
			continue;
		c->ready = true;
		TAILQ_INSERT_TAIL(&http->ready, c, ready_link);
		if (!again)
			again = c; /* one turn has one write for each connection */
	}
	if (more || !TAILQ_EMPTY(&http->ready) || !TAILQ_EMPTY(&http->server->sessions.to_notify))
		ev_idle_start(loop, &http->idle);
	else
		ev_idle_stop(loop, &http->idle);
}

static int listen_on(const struct sockaddr_storage *address, socklen_t length, int *out)
{
	int yes = 1;
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
	    bind(fd, (const struct sockaddr *)address, length) != 0 || listen(fd, BACKLOG) != 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

int http_start(struct http_server *http, struct server *server,
    const struct sockaddr_storage *address, socklen_t length)
{
	struct ev_loop *loop = server->loop;
	int fd;
	int error = listen_on(address, length, &fd);

	if (error)
		return error;
	http->server = server;
	http->loop = loop;
	http->count = 0;
	TAILQ_INIT(&http->connections);
	TAILQ_INIT(&http->ready);
	timeout_queue_init(&http->idle_time, loop, idle_seconds, connection_expire);
	timeout_queue_init(&http->request_time, loop, request_seconds, connection_expire);
	timeout_queue_init(&http->write_time, loop, write_seconds, connection_expire);
	timeout_queue_init(&http->linger_time, loop, linger_seconds, connection_expire);
	ev_io_init(&http->acceptable, on_acceptable, fd, EV_READ);
	ev_timer_init(&http->accept_pause, on_accept_pause, 0, accept_pause_seconds);
	ev_prepare_init(&http->prepare, on_prepare);
	ev_idle_init(&http->idle, on_idle);
	ev_io_start(loop, &http->acceptable);
	ev_prepare_start(loop, &http->prepare);
	return 0;
}

int http_address(const struct http_server *http, struct sockaddr_storage *address)
{
	socklen_t length = sizeof(*address);

	*address = (struct sockaddr_storage){0};
	return getsockname(http->acceptable.fd, (struct sockaddr *)address, &length) != 0 ? -errno
											  : 0;
}

void http_stop(struct http_server *http)
{
	struct connection *c;

	while ((c = TAILQ_FIRST(&http->connections)))
		connection_free(c);
	ev_io_stop(http->loop, &http->acceptable);
	ev_timer_stop(http->loop, &http->accept_pause);
	ev_prepare_stop(http->loop, &http->prepare);
	ev_idle_stop(http->loop, &http->idle);
	timeout_queue_stop(&http->idle_time);
	timeout_queue_stop(&http->request_time);
	timeout_queue_stop(&http->write_time);
	timeout_queue_stop(&http->linger_time);
	close(http->acceptable.fd);
}
