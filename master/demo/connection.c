/* connection: see connection.h. */
#include "master/demo/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "master/demo/endpoint.h"
#include "master/demo/http.h"

enum { WRITE_BUDGET = 64 << 10, REST_MAX = 64 << 10 };

static void connection_wake(struct connection *c)
{
	if (c->ready)
		return;
	c->ready = true;
	TAILQ_INSERT_TAIL(&c->http->ready, c, ready_link);
}

static void connection_doom(struct connection *c)
{
	c->state = CONNECTION_DOOMED;
	ev_io_stop(c->http->loop, &c->readable);
	connection_wake(c);
}

/* At most one deadline runs at a time. NULL: none. */
static void connection_time(struct connection *c, struct timeout_queue *queue)
{
	if (c->timing)
		timeout_disarm(c->timing, &c->timeout);
	c->timing = queue;
	if (queue)
		timeout_arm(queue, &c->timeout);
}

void connection_expire(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	connection_doom(container_of(timeout, struct connection, timeout));
}

static void on_answer_changed(struct http_answer *a)
{
	connection_wake(container_of(a, struct connection, answer));
}

/* A request that can't be read: its end is not known, so nothing after it is read either. */
static void connection_refuse(struct connection *c, unsigned status)
{
	c->state = CONNECTION_ANSWERING;
	connection_time(c, NULL);
	endpoint_refuse(&c->answer, status);
}

/* Whoever sent Expect: 100-continue may wait for it before it sends the body (RFC 9110, 10.1.1). */
static void connection_continue(struct connection *c)
{
	struct http_value *expect = &c->request.fields[FIELD_EXPECT];

	if (!c->request.head || !expect->present)
		return;
	expect->present = false;
	if (span_equal_nocase(http_request_field(&c->request, FIELD_EXPECT), SPAN("100-continue")))
		http_answer_continue(&c->answer);
}

/* Parse up to the end of one request, and run it. Returns how many bytes were used. */
static size_t connection_feed(struct connection *c, struct span bytes)
{
	size_t used;
	unsigned status = http_request_read(&c->request, bytes, &used);

	if (status) {
		connection_refuse(c, status);
		return bytes.n;
	}
	if (c->request.complete) {
		c->state = CONNECTION_ANSWERING;
		connection_time(c, NULL);
		endpoint_handle(c->http->server, &c->request, &c->answer);
		return used;
	}
	if (http_request_keep(&c->request) != 0) {
		connection_doom(c);
		return used;
	}
	connection_continue(c);
	if (c->request.started && c->timing != &c->http->request_time)
		connection_time(c, &c->http->request_time);
	return used;
}

static void connection_receive(struct connection *c, struct span bytes)
{
	if (c->state == CONNECTION_LINGERING)
		return;
	if (c->state == CONNECTION_READING) {
		size_t used = connection_feed(c, bytes);
		bytes = (struct span){bytes.p + used, bytes.n - used};
	}
	if (bytes.n == 0 || c->state != CONNECTION_ANSWERING)
		return;
	if (buffer_append(&c->rest, bytes.p, bytes.n, REST_MAX) != 0)
		connection_doom(c);
	else if (buffer_length(&c->rest) == REST_MAX)
		ev_io_stop(c->http->loop, &c->readable);
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
	struct connection *c = container_of(io, struct connection, readable);
	size_t room = REST_MAX - buffer_length(&c->rest);

	(void)events;
	ssize_t n = recv(io->fd, c->http->input, room, 0);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			connection_doom(c);
	} else if (n > 0) {
		connection_receive(c, (struct span){c->http->input, (size_t)n});
	} else if (c->state == CONNECTION_ANSWERING && c->answer.complete) {
		/* Half closed: it may still read what it asked for. */
		c->ended = true;
		ev_io_stop(loop, io);
	} else {
		connection_doom(c);
	}
}

static void on_writable(struct ev_loop *loop, ev_io *io, int events)
{
	(void)events;
	ev_io_stop(loop, io);
	connection_wake(container_of(io, struct connection, writable));
}

int connection_open(struct http_server *http, int fd)
{
	struct connection *c = malloc(sizeof(*c));

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->http = http;
	c->timeout = (struct timeout){0};
	c->timing = NULL;
	c->rest = (struct buffer){0};
	c->state = CONNECTION_READING;
	c->ready = c->ended = false;
	http_request_init(&c->request);
	http_answer_init(&c->answer, on_answer_changed);
	ev_io_init(&c->readable, on_readable, fd, EV_READ);
	ev_io_init(&c->writable, on_writable, fd, EV_WRITE);
	ev_io_start(http->loop, &c->readable);
	connection_time(c, &http->idle_time);
	TAILQ_INSERT_TAIL(&http->connections, c, link);
	http->count++;
	return 0;
}

void connection_free(struct connection *c)
{
	struct http_server *http = c->http;

	http_answer_release(&c->answer);
	http_request_release(&c->request);
	buffer_release(&c->rest);
	connection_time(c, NULL);
	ev_io_stop(http->loop, &c->readable);
	ev_io_stop(http->loop, &c->writable);
	close(c->readable.fd);
	if (c->ready)
		TAILQ_REMOVE(&http->ready, c, ready_link);
	TAILQ_REMOVE(&http->connections, c, link);
	http->count--;
	free(c);
}

/* The answer is out. */
static void connection_next(struct connection *c)
{
	bool keep_alive = c->answer.options.keep_alive && !c->ended;

	http_answer_reset(&c->answer);
	if (!keep_alive) {
		if (c->ended || shutdown(c->readable.fd, SHUT_WR) != 0) {
			connection_doom(c);
			return;
		}
		c->state = CONNECTION_LINGERING;
		buffer_release(&c->rest);
		connection_time(c, &c->http->linger_time);
		ev_io_start(c->http->loop, &c->readable);
		return;
	}
	http_request_reset(&c->request);
	c->state = CONNECTION_READING;
	connection_time(c, &c->http->idle_time);
	ev_io_start(c->http->loop, &c->readable);
	if (buffer_length(&c->rest) == 0)
		return;
	buffer_consume(&c->rest, connection_feed(c, buffer_span(&c->rest)));
	if (buffer_length(&c->rest) == 0)
		buffer_release(&c->rest);
}

/* Write what there is. False when the socket takes no more for now. */
static bool connection_flush(struct connection *c)
{
	struct output *out = &c->answer.out;

	if (out->total == 0)
		return true;
	if (ev_is_active(&c->writable))
		return false;
	int error = output_write(out, c->readable.fd, WRITE_BUDGET);
	if (error == -EAGAIN) {
		ev_io_start(c->http->loop, &c->writable);
		if (c->state == CONNECTION_ANSWERING)
			connection_time(c, &c->http->write_time);
		return false;
	}
	if (error)
		connection_doom(c);
	else if (c->timing == &c->http->write_time)
		connection_time(c, out->total > 0 ? c->timing : NULL);
	return true;
}

bool connection_run(struct connection *c)
{
	if (c->answer.failed)
		connection_doom(c);
	if (c->state != CONNECTION_DOOMED && !connection_flush(c))
		return false;
	if (c->state == CONNECTION_DOOMED) {
		connection_free(c);
		return false;
	}
	if (c->answer.out.total > 0)
		return true;
	if (c->state == CONNECTION_ANSWERING && c->answer.complete)
		connection_next(c);
	return false;
}
