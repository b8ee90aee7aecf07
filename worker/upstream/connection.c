/*
 * connection: one TCP connection to an upstream: connect, write a request, read its answer, go
 * idle.
 *
 * An answer is read through the same strict reader as requests; a connection whose answer was
 * refused, or that brought more bytes than its answer, is never used again. A request that met a
 * stale pooled connection is sent again once, on a new one, if no byte of an answer came and it
 * can't have been processed twice.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/turn.h"
#include "worker/upstream/upstream.h"

enum {
	WRITE_MAX = 64 * 1024,  /* of a body, per wake-up */
	STREAM_READ = 64 * 1024 /* of an answer of unknown length */
};

static void on_io(struct ev_loop *loop, ev_io *io, int events);

void upstream_connection_update(struct upstream_connection *uc)
{
	struct ev_loop *loop = uc->upstream->worker->loop;
	const struct upstream_call *call = uc->call;
	int events = call && call->paused ? 0 : EV_READ;

	if (uc->closed)
		return;
	if (uc->connecting)
		events = EV_WRITE;
	else if (call && call->written < buffer_length(&call->head) + call->body.n)
		events |= EV_WRITE;
	if (events == (uc->io.events & (EV_READ | EV_WRITE)) && ev_is_active(&uc->io))
		return;
	ev_io_stop(loop, &uc->io);
	ev_io_set(&uc->io, uc->io.fd, events);
	if (events)
		ev_io_start(loop, &uc->io);
}

static void leave_pool(struct upstream_connection *uc)
{
	struct upstream *u = uc->upstream;

	if (!uc->pooled)
		return;
	uc->pooled = false;
	timeout_disarm(&u->worker->timeouts.upstream_idle, &uc->idle);
	TAILQ_REMOVE(&u->idle, uc, link);
	u->idle_count--;
}

void upstream_connection_close(struct upstream_connection *uc)
{
	struct upstream *u = uc->upstream;
	struct worker *w = u->worker;

	if (uc->closed)
		return;
	uc->closed = true;
	leave_pool(uc);
	if (uc->posted)
		TAILQ_REMOVE(&w->posted_upstreams, uc, link);
	ev_io_stop(w->loop, &uc->io);
	close(uc->io.fd);
	TAILQ_INSERT_TAIL(&w->closed_upstreams, uc, link);
	u->open_count--;
	METRIC_SUB(w->metrics, UPSTREAM_CONNECTIONS_OPEN, 1, u->metrics_id);
	upstream_serve_waiting(u);
}

void upstreams_free_closed(struct worker *w)
{
	struct upstream_connection *uc;

	while ((uc = TAILQ_FIRST(&w->closed_upstreams))) {
		TAILQ_REMOVE(&w->closed_upstreams, uc, link);
		buffer_release(&uc->in);
		free(uc);
	}
}

/* The call is over and its connection is whole: keep it for the next. */
static void connection_release(struct upstream_connection *uc, bool reusable)
{
	struct upstream *u = uc->upstream;
	struct worker *w = u->worker;

	if (uc->closed)
		return;
	buffer_release(&uc->in);
	if (!reusable || w->draining || u->idle_count >= w->config->limits.upstream_idle) {
		upstream_connection_close(uc);
		return;
	}
	uc->served = true;
	uc->pooled = true;
	TAILQ_INSERT_HEAD(&u->idle, uc, link);
	u->idle_count++;
	timeout_arm(&w->timeouts.upstream_idle, &uc->idle);
	upstream_connection_update(uc);
	upstream_serve_waiting(u);
}

/* The connection failed under its call: try again where that is safe, else say so. */
static void connection_failed(
    struct upstream_connection *uc, enum metric_reason reason, const char *detail)
{
	struct upstream_call *call = uc->call;
	bool stale = call && uc->served && !uc->received && !call->fresh;

	if (!call) {
		upstream_connection_close(uc);
		return;
	}
	if (stale && (call->written == 0 || call->repeatable)) {
		METRIC_ADD(
		    uc->upstream->worker->metrics, UPSTREAM_RETRIES, 1, uc->upstream->metrics_id);
		uc->call = NULL;
		call->connection = NULL;
		call->fresh = true;
		call->written = 0;
		upstream_connection_close(uc);
		upstream_call_assign(call);
		return;
	}
	upstream_call_end(call, (int)reason, detail);
	upstream_connection_close(uc);
}

static void call_write(struct upstream_connection *uc)
{
	struct upstream_call *call = uc->call;
	struct span head = buffer_span(&call->head);
	struct iovec pieces[2];
	int count = 0;

	if (call->written < head.n)
		pieces[count++] =
		    (struct iovec){(char *)head.p + call->written, head.n - call->written};
	size_t body_sent = call->written > head.n ? call->written - head.n : 0;
	size_t rest = call->body.n - body_sent;
	if (rest > 0)
		pieces[count++] = (struct iovec){
		    (char *)call->body.p + body_sent, rest < WRITE_MAX ? rest : WRITE_MAX};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
	ssize_t n = sendmsg(uc->io.fd, &message, MSG_NOSIGNAL);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			connection_failed(uc, METRIC_REASON_CLOSED, "it closed the connection");
		return;
	}
	call->written += (size_t)n;
	if (call->written == head.n + call->body.n)
		upstream_call_deadline(call,
		    call->stream ? NULL : &uc->upstream->worker->timeouts.upstream_first_byte);
}

/* The connection is established: the call's request goes out, with all others of this turn
 * (outbox.h says why). */
static void connection_begin(struct upstream_connection *uc)
{
	struct worker *w = uc->upstream->worker;
	const struct config_limits *limits = &w->config->limits;

	uc->received = false;
	uc->call->state = CALL_ACTIVE;
	reader_init(&uc->reader, READER_RESPONSE,
	    (struct reader_limits){(uint32_t)limits->header_size, limits->header_count});
	uc->posted = true;
	TAILQ_INSERT_TAIL(&w->posted_upstreams, uc, link);
}

void upstreams_send_posted(struct worker *w)
{
	struct upstream_connection *uc;

	while ((uc = TAILQ_FIRST(&w->posted_upstreams))) {
		TAILQ_REMOVE(&w->posted_upstreams, uc, link);
		uc->posted = false;
		call_write(uc);
		upstream_connection_update(uc);
	}
}

void upstream_connection_use(struct upstream_connection *uc, struct upstream_call *call)
{
	leave_pool(uc);
	uc->call = call;
	call->connection = uc;
	connection_begin(uc);
}

/* Start to connect to the next address. 0 when under way, else the errno of the last one tried. */
static int try_addresses(struct upstream_connection *uc)
{
	static const int on = 1;
	const struct resolved *list = &uc->upstream->addresses;
	int error = EHOSTUNREACH;

	for (; uc->attempt < list->count; uc->attempt++) {
		const struct sockaddr_storage *to = &list->addresses[uc->attempt];
		int fd = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0) {
			error = errno;
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(fd, (const struct sockaddr *)to, list->lengths[uc->attempt]) == 0 ||
		    errno == EINPROGRESS) {
			ev_io_init(&uc->io, on_io, fd, EV_WRITE);
			return 0;
		}
		error = errno;
		close(fd);
	}
	return error;
}

static int dial(struct upstream_connection *uc)
{
	int fd = uc->upstream->dial(uc->upstream);

	if (fd < 0)
		return -fd;
	ev_io_init(&uc->io, on_io, fd, EV_WRITE);
	return 0;
}

static void connect_failed(struct upstream_call *call, int error)
{
	char detail[128];

	snprintf(detail, sizeof(detail), "no connection: %s", strerror(error));
	upstream_call_unreachable(call, METRIC_REASON_CONNECT, detail);
}

void upstream_connection_open(struct upstream *u, struct upstream_call *call)
{
	struct upstream_connection *uc = calloc(1, sizeof(*uc));

	if (!uc) {
		connect_failed(call, ENOMEM);
		return;
	}
	uc->upstream = u;
	uc->connecting = true;
	int error = u->dial ? dial(uc) : try_addresses(uc);
	if (error) {
		free(uc);
		connect_failed(call, error);
		return;
	}
	uc->call = call;
	call->connection = uc;
	call->state = CALL_CONNECTING;
	u->open_count++;
	METRIC_ADD(u->worker->metrics, UPSTREAM_CONNECTIONS_OPEN, 1, u->metrics_id);
	METRIC_ADD(u->worker->metrics, UPSTREAM_CONNECTIONS, 1, u->metrics_id);
	upstream_connection_update(uc);
}

static void connect_done(struct upstream_connection *uc)
{
	struct upstream_call *call = uc->call;
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(uc->io.fd, SOL_SOCKET, SO_ERROR, &error, &length))
		error = errno;
	if (error) {
		ev_io_stop(uc->upstream->worker->loop, &uc->io);
		int failed = uc->io.fd;
		uc->attempt++;
		if (try_addresses(uc) == 0) {
			close(failed);
			upstream_connection_update(uc);
			return;
		}
		connect_failed(call, error);
		upstream_connection_close(uc);
		return;
	}
	uc->connecting = false;
	connection_begin(uc);
}

/* The whole answer is here; `rest` are bytes that should not be. */
static void answer_done(struct upstream_connection *uc, struct span rest)
{
	struct upstream_call *call = uc->call;
	bool whole = call->written == buffer_length(&call->head) + call->body.n;
	bool reusable = whole && uc->keep_alive && !uc->reader.close_delimited && rest.n == 0;

	upstream_call_end(call, UPSTREAM_OK, "");
	connection_release(uc, reusable);
}

static int on_body(struct reader *reader, const char *p, size_t n)
{
	struct upstream_connection *uc = container_of(reader, struct upstream_connection, reader);

	uc->call->ops->body(uc->call, p, n);
	return uc->call == NULL;
}

/* Final heads are delivered, interim ones (1xx) skipped. Bytes used, 0 for more needed, -1 when
 * over. */
static ssize_t take_head(struct upstream_connection *uc, struct span bytes)
{
	struct worker *w = uc->upstream->worker;
	size_t used = 0;

	while (!uc->reader.head_done) {
		struct span rest = {bytes.p + used, bytes.n - used};
		ssize_t n = reader_head(&uc->reader, rest, &w->head);
		if (n < 0) {
			connection_failed(uc, METRIC_REASON_PROTOCOL, uc->reader.error);
			return -1;
		}
		if (n == 0)
			return (ssize_t)used;
		used += (size_t)n;
		if (w->head.status < 200) {
			reader_init(&uc->reader, READER_RESPONSE, uc->reader.limits);
			continue;
		}
		uc->keep_alive = w->head.keep_alive;
		uc->call->answered = true;
		uc->call->ops->head(uc->call, &w->head);
	}
	return uc->call ? (ssize_t)used : -1;
}

static void take_answer(struct upstream_connection *uc, struct span bytes, bool buffered)
{
	ssize_t n = uc->reader.head_done ? 0 : take_head(uc, bytes);

	if (n < 0)
		return;
	size_t used = (size_t)n;
	if (!uc->reader.head_done) {
		int error = 0;
		if (buffered)
			buffer_consume(&uc->in, used);
		else
			error = buffer_append(&uc->in, bytes.p + used, bytes.n - used,
			    uc->reader.limits.head_size + WORKER_SCRATCH);
		if (error)
			connection_failed(
			    uc, METRIC_REASON_PROTOCOL, "its answer's head is too long");
		return;
	}
	if (!uc->reader.message_done) {
		n = reader_body(
		    &uc->reader, (struct span){bytes.p + used, bytes.n - used}, on_body);
		if (!uc->call)
			return;
		if (n < 0) {
			connection_failed(uc, METRIC_REASON_PROTOCOL, uc->reader.error);
			return;
		}
		used += (size_t)n;
	}
	if (uc->reader.message_done)
		answer_done(uc, (struct span){bytes.p + used, bytes.n - used});
	else
		uc->call->ops->read_end(uc->call);
	/* After the head everything is used at once. */
	if (buffered && !uc->closed)
		buffer_release(&uc->in);
}

static void connection_ended(struct upstream_connection *uc)
{
	if (!uc->call) {
		upstream_connection_close(uc);
		return;
	}
	if (uc->reader.head_done && reader_eof(&uc->reader)) {
		answer_done(uc, (struct span){0});
		return;
	}
	connection_failed(uc, METRIC_REASON_CLOSED,
	    uc->received ? "it closed the connection in the middle of its answer"
			 : "it closed the connection without an answer");
}

/* Of an answer that is not over; the connection may have another call by now. */
static void await_more(struct upstream_connection *uc)
{
	struct upstream_call *call = uc->closed || !uc->received ? NULL : uc->call;

	if (call && !call->stream && !call->paused)
		upstream_call_deadline(
		    call, &uc->upstream->worker->timeouts.upstream_between_bytes);
}

/* A stream may go on for ever: the others have their turn sooner. */
static size_t read_size(const struct upstream_connection *uc)
{
	const struct reader *r = &uc->reader;

	return r->head_done && (r->chunked || r->close_delimited) ? STREAM_READ : WORKER_SCRATCH;
}

static void connection_read(struct upstream_connection *uc)
{
	struct worker *w = uc->upstream->worker;
	ssize_t n = recv(uc->io.fd, w->scratch, read_size(uc), 0);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			connection_failed(uc, METRIC_REASON_CLOSED, "it reset the connection");
		return;
	}
	if (n == 0 || !uc->call) { /* an idle connection has nothing to say */
		connection_ended(uc);
		return;
	}
	uc->received = true;
	struct span bytes = {w->scratch, (size_t)n};
	bool buffered = buffer_length(&uc->in) > 0;
	if (buffered) {
		if (buffer_append(
			&uc->in, bytes.p, bytes.n, uc->reader.limits.head_size + WORKER_SCRATCH)) {
			connection_failed(
			    uc, METRIC_REASON_PROTOCOL, "its answer's head is too long");
			return;
		}
		bytes = buffer_span(&uc->in);
	}
	take_answer(uc, bytes, buffered);
	await_more(uc);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct upstream_connection *uc = container_of(io, struct upstream_connection, io);

	turn_enter("upstream");
	(void)loop;
	if (uc->connecting) {
		connect_done(uc);
		return;
	}
	if ((events & EV_WRITE) && uc->call)
		call_write(uc);
	if (!uc->closed && (events & EV_READ))
		connection_read(uc);
	if (!uc->closed)
		upstream_connection_update(uc);
}
