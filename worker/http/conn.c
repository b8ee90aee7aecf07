/*
 * conn: see conn.h.
 *
 * Life of a connection: HEAD (waiting for or reading a head) -> BODY -> ANSWERING -> HEAD again, or
 * LINGER: the sending side is shut and what still comes is read and dropped, so that no reset
 * destroys an answer on its way.
 */
#include "worker/http/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/turn.h"
#include "worker/http/handshake.h"
#include "worker/http/tls.h"
#include "worker/policy/clients.h"
#include "worker/worker.h"

enum {
	CONN_PIPELINE_BUDGET = 4, /* requests answered per wake-up */
	CONN_LINGER_SECONDS = 2,
};

static void conn_next(struct conn *c);
static void send_posted(struct conn *c);

void conn_deadline(struct conn *c, struct timeout_queue *queue)
{
	if (c->deadline_queue)
		timeout_disarm(c->deadline_queue, &c->deadline);
	c->deadline_queue = queue;
	if (queue)
		timeout_arm(queue, &c->deadline);
}

static size_t in_max(const struct conn *c)
{
	return c->worker->config->limits.header_size + CONN_BUDGET;
}

/* What comes while lingering is dropped as it is. */
static struct tls *tls_of(const struct conn *c)
{
	return c->state == CONN_LINGER ? NULL : c->tls;
}

static bool wants_more(const struct conn *c)
{
	/* Whole requests wait: for an answer to be made or written, or for their turn. */
	bool waits = c->state == CONN_ANSWERING || c->head_sent || c->in_ready;
	bool full = waits && buffer_length(&c->in) >= c->worker->config->limits.header_size;

	return !c->read_ended && !full;
}

static void update_events(struct conn *c)
{
	int events = wants_more(c) ? EV_READ : 0;

	if (buffer_length(&c->out) > 0)
		events |= EV_WRITE;
	if (c->tls && tls_of(c)) {
		if ((events & EV_READ) && tls_more(c->tls))
			worker_ready(c->worker, c);
		events = tls_wanted(c->tls, events);
	}
	if (events == (c->io.events & (EV_READ | EV_WRITE)) && ev_is_active(&c->io))
		return;
	ev_io_stop(c->worker->loop, &c->io);
	ev_io_set(&c->io, c->io.fd, events);
	if (events)
		ev_io_start(c->worker->loop, &c->io);
}

void conn_close(struct conn *c)
{
	struct worker *w = c->worker;

	if (!c->closed && c->posted.p)
		send_posted(c);
	if (c->closed)
		return;
	c->closed = true;
	if (c->state == CONN_BODY || c->state == CONN_ANSWERING)
		c->handler->aborted(c);
	else if (c->tls && buffer_length(&c->out) == 0)
		tls_end(c->tls);
	ev_io_stop(w->loop, &c->io);
	close(c->io.fd);
	conn_deadline(c, NULL);
	timeout_disarm(&w->timeouts.client_write, &c->write_deadline);
	if (c->in_ready)
		TAILQ_REMOVE(&w->ready, c, ready);
	TAILQ_REMOVE(&w->conns, c, link);
	TAILQ_INSERT_TAIL(&w->closed_conns, c, link);
	w->conn_count--;
	METRIC_SUB(w->metrics, CONNECTIONS_OPEN, 1, 0);
	METRIC_OBSERVE(w->metrics, CONNECTION_SECONDS, clock_microseconds() - c->opened, 0);
	worker_check_done(w);
}

void conn_free(struct conn *c)
{
	buffer_release(&c->in);
	buffer_release(&c->out);
	clients_release(c->worker->clients, c->client);
	tls_free(c->tls);
	free(c);
}

void conn_linger(struct conn *c)
{
	c->state = CONN_LINGER;
	buffer_release(&c->in);
	if (c->read_ended) {
		conn_close(c);
		return;
	}
	if (c->tls)
		tls_end(c->tls);
	c->securing = false;
	shutdown(c->io.fd, SHUT_WR);
	conn_deadline(c, &c->worker->timeouts.client_linger);
	update_events(c);
}

/* The client said that it will send nothing more, and all of that was read: no reset can destroy
 * its answer. */
static bool was_last_request(const struct conn *c)
{
	return c->last_request && c->reader.message_done && buffer_length(&c->in) == 0 && !c->tls;
}

void conn_answered(struct conn *c)
{
	if (was_last_request(c)) {
		conn_close(c);
		return;
	}
	/* One that was not told of the end may be sending its next request. */
	if (c->close_after || c->worker->drain.last)
		conn_linger(c);
	else
		conn_next(c);
}

static bool answer_ended(const struct conn *c)
{
	return c->state == CONN_HEAD && c->head_sent;
}

bool conn_all_sent(const struct conn *c)
{
	return buffer_length(&c->out) == 0 && !c->posted.p;
}

/* How many bytes the socket takes at once; below 0: the connection has failed. */
static ssize_t send_now(struct conn *c, struct iovec *pieces, unsigned count)
{
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	ssize_t n = c->tls       ? tls_write(c->tls, pieces, count)
		    : count == 1 ? send(c->io.fd, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL)
				 : sendmsg(c->io.fd, &message, MSG_NOSIGNAL);

	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n;
}

/* Keep what the socket did not take. */
static int queue_rest(
    struct conn *c, const struct iovec *pieces, unsigned count, size_t sent, size_t length)
{
	for (unsigned i = 0; i < count; i++) {
		size_t n = pieces[i].iov_len;
		if (sent >= n) {
			sent -= n;
			continue;
		}
		const char *p = pieces[i].iov_base;
		/* One message may be longer than what may wait before it. */
		int error = buffer_append(&c->out, p + sent, n - sent, CONN_OUT_MAX + length);
		if (error)
			return error;
		sent = 0;
	}
	if (!timeout_armed(&c->write_deadline))
		timeout_arm(&c->worker->timeouts.client_write, &c->write_deadline);
	c->above_water |= conn_congested(c);
	update_events(c);
	return 0;
}

/* Send pieces behind what waits already. False when the connection can't go on. */
static bool send_or_queue(struct conn *c, struct iovec *pieces, unsigned count, size_t length)
{
	ssize_t sent = buffer_length(&c->out) == 0 ? send_now(c, pieces, count) : 0;

	return sent >= 0 &&
	       ((size_t)sent == length || !queue_rest(c, pieces, count, (size_t)sent, length));
}

/* The answer in the outbox goes out, before anything else of this connection. */
static void send_posted(struct conn *c)
{
	struct iovec piece = {(char *)c->posted.p, c->posted.n};

	TAILQ_REMOVE(&c->worker->outbox.conns, c, link_posted);
	c->posted = (struct span){0};
	if (!send_or_queue(c, &piece, 1, piece.iov_len))
		conn_close(c);
	else if (answer_ended(c) && conn_all_sent(c))
		conn_answered(c);
}

void conns_send_posted(struct worker *w)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&w->outbox.conns)))
		send_posted(c);
	outbox_reset(&w->outbox);
}

void conn_flush(struct conn *c)
{
	struct worker *w = c->worker;
	struct gather *g = &w->gather;

	if (c->posted.p && g->length > 0)
		send_posted(c);
	if (c->closed || g->length == 0) {
		gather_reset(g);
		return;
	}
	c->head_sent = true;
	c->bytes_out += g->length;
	if (buffer_length(&c->out) == 0)
		c->posted = outbox_put(&w->outbox, g);
	if (c->posted.p)
		TAILQ_INSERT_TAIL(&w->outbox.conns, c, link_posted);
	else if (!send_or_queue(c, g->pieces, g->count, g->length))
		conn_close(c);
	gather_reset(g);
}

static void conn_write_queued(struct conn *c)
{
	struct span rest = buffer_span(&c->out);
	size_t budget = rest.n < CONN_BUDGET ? rest.n : CONN_BUDGET;

	if (rest.n == 0) /* TLS had something to write for itself */
		return;
	struct iovec piece = {(char *)rest.p, budget};
	ssize_t n = send_now(c, &piece, 1);
	if (n <= 0) {
		if (n < 0)
			conn_break(c);
		return;
	}
	buffer_consume(&c->out, (size_t)n);
	size_t left = buffer_length(&c->out);
	if (left > 0) {
		timeout_arm(&c->worker->timeouts.client_write, &c->write_deadline);
	} else {
		timeout_disarm(&c->worker->timeouts.client_write, &c->write_deadline);
		buffer_release(&c->out);
	}
	if (c->above_water && left < CONN_LOW_WATER) {
		c->above_water = false;
		if (c->state == CONN_ANSWERING)
			c->handler->drained(c);
	}
	/* What was drained may have ended its answer. */
	if (!c->closed && conn_all_sent(c) && answer_ended(c))
		conn_answered(c);
	if (!c->closed)
		update_events(c);
}

/* How long it may wait for its next request. */
static struct timeout_queue *idle_queue(struct worker *w)
{
	struct worker_timeouts *t = &w->timeouts;

	if (!w->draining)
		return &t->client_idle;
	return w->drain.last ? &t->client_linger : &t->client_parting;
}

void conn_await(struct conn *c)
{
	struct worker *w = c->worker;

	conn_deadline(c, c->securing ? &w->timeouts.client_header : idle_queue(w));
}

/* Ready for another request on this connection. */
static void conn_next(struct conn *c)
{
	struct worker *w = c->worker;
	struct reader_limits limits = {
	    (uint32_t)w->config->limits.header_size, w->config->limits.header_count};

	c->state = CONN_HEAD;
	c->head_sent = false;
	c->chunked = false;
	c->close_after = false;
	c->request_open = false;
	reader_init(&c->reader, READER_REQUEST, limits);
	if (buffer_length(&c->in) > 0) {
		worker_ready(w, c);
	} else {
		buffer_release(&c->in);
		conn_deadline(c, idle_queue(w));
		if (c->read_ended) {
			conn_close(c);
			return;
		}
	}
	update_events(c);
}

/* The client waits for a word before it sends the body (RFC 9110, 10.1.1). Lost, it only costs a
 * wait, but TLS has to go on where it was. */
static void send_continue(struct conn *c)
{
	static char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct iovec piece = {text, sizeof(text) - 1};

	ssize_t n = send_now(c, &piece, 1);
	if (n < 0 || (n == 0 && c->tls &&
			 buffer_append(&c->out, piece.iov_base, piece.iov_len, CONN_OUT_MAX)))
		conn_close(c);
}

/* Only part of the head or the body is here: its time counts from the first such part. */
static void await_rest(struct conn *c, struct timeout_queue *queue)
{
	if (c->deadline_queue != queue)
		conn_deadline(c, queue);
}

static size_t take_head(struct conn *c, struct span bytes)
{
	struct worker *w = c->worker;

	if (!c->request_open) {
		c->request_open = true;
		c->request_started = clock_microseconds();
		c->bytes_in = c->bytes_out = 0;
	}
	ssize_t n = reader_head(&c->reader, bytes, &w->head);
	if (n == 0) {
		await_rest(c, &w->timeouts.client_header);
		return 0;
	}
	c->state = CONN_BODY; /* refused or not, there is a request now */
	if (n < 0) {
		c->state = CONN_HEAD;
		conn_refuse(c, c->reader.status, c->reader.error);
		return bytes.n;
	}
	c->requests++;
	unsigned most = w->config->limits.requests_per_connection;
	c->http10 = w->head.minor == 0;
	c->last_request = !w->head.keep_alive;
	c->close_after = c->last_request || (most > 0 && c->requests >= most);
	c->bytes_in += (size_t)n;
	conn_deadline(c, NULL);
	bool expects = head_find(&w->head, HTTP_EXPECT) != NULL;
	c->handler->head(c, &w->head);
	if (c->closed || c->state != CONN_BODY)
		return (size_t)n;
	if (c->reader.message_done) {
		c->state = CONN_ANSWERING;
		c->handler->complete(c);
	} else if ((size_t)n == bytes.n) {
		await_rest(c, &w->timeouts.client_body);
		if (expects && !c->http10)
			send_continue(c);
	}
	return (size_t)n;
}

static int on_body(struct reader *reader, const char *p, size_t n)
{
	struct conn *c = container_of(reader, struct conn, reader);

	return c->handler->body(c, p, n);
}

static size_t take_body(struct conn *c, struct span bytes)
{
	ssize_t n = reader_body(&c->reader, bytes, on_body);

	if (c->closed || n == -ECANCELED || c->state != CONN_BODY)
		return bytes.n;
	if (n < 0) {
		c->handler->aborted(c);
		c->state = CONN_HEAD;
		conn_refuse(c, c->reader.status, c->reader.error);
		return bytes.n;
	}
	c->bytes_in += (size_t)n;
	if (c->reader.message_done) {
		conn_deadline(c, NULL);
		c->state = CONN_ANSWERING;
		c->handler->complete(c);
	} else {
		await_rest(c, &c->worker->timeouts.client_body);
	}
	return (size_t)n;
}

/* Serve what `bytes` hold, a few requests at most. Returns what was used. */
static size_t conn_serve(struct conn *c, struct span bytes)
{
	size_t used = 0;

	for (int budget = CONN_PIPELINE_BUDGET; budget > 0 && used < bytes.n && !c->closed;) {
		struct span rest = {bytes.p + used, bytes.n - used};
		size_t n;
		if (c->state == CONN_HEAD && !c->head_sent) {
			n = take_head(c, rest);
			budget--;
		} else if (c->state == CONN_BODY) {
			n = take_body(c, rest);
		} else {
			break;
		}
		if (n == 0)
			break;
		used += n;
	}
	return used;
}

static void keep_rest(struct conn *c, struct span rest)
{
	if (c->closed || c->state == CONN_LINGER || rest.n == 0)
		return;
	if (buffer_append(&c->in, rest.p, rest.n, in_max(c))) {
		conn_close(c);
		return;
	}
	/* A whole request may already be here: an answer given at once left it waiting. */
	if (c->state == CONN_HEAD && !c->head_sent && c->reader.scanned == 0)
		worker_ready(c->worker, c);
}

static void serve_in(struct conn *c)
{
	size_t used = conn_serve(c, buffer_span(&c->in));

	if (c->closed || c->state == CONN_LINGER)
		return;
	buffer_consume(&c->in, used);
	if (used > 0 && buffer_length(&c->in) > 0 && c->state == CONN_HEAD && !c->head_sent)
		worker_ready(c->worker, c);
	update_events(c);
}

static void read_ended(struct conn *c)
{
	c->read_ended = true;
	if (c->state == CONN_ANSWERING && c->handler->half_closed(c)) {
		c->close_after = true;
		return;
	}
	if (answer_ended(c)) /* the rest of an answer is still being written */
		c->close_after = true;
	else
		conn_close(c);
}

bool conn_left(struct conn *c)
{
	if (!c->read_ended || c->handler->half_closed(c))
		return false;
	conn_close(c);
	return true;
}

static void conn_read(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->securing && !handshake_turn(c))
		return;
	ssize_t n = tls_of(c) ? tls_read(c->tls, w->scratch, CONN_BUDGET)
			      : recv(c->io.fd, w->scratch, CONN_READ, 0);
	int error = errno;

	if (c->securing && !handshake_step(c))
		return;
	if (n < 0) {
		if (error != EAGAIN && error != EINTR)
			conn_close(c);
		return;
	}
	if (n == 0) {
		read_ended(c);
		return;
	}
	if (c->state == CONN_LINGER)
		return;
	struct span bytes = {w->scratch, (size_t)n};
	if (buffer_length(&c->in) > 0 || c->in_ready) {
		if (buffer_append(&c->in, bytes.p, bytes.n, in_max(c)))
			conn_close(c);
		else if (c->state != CONN_ANSWERING)
			serve_in(c);
		return;
	}
	size_t used = conn_serve(c, bytes);
	keep_rest(c, (struct span){bytes.p + used, bytes.n - used});
}

void conn_serve_buffered(struct conn *c)
{
	serve_in(c);
	if (c->closed || !tls_of(c) || !tls_more(c->tls) || !wants_more(c))
		return;
	conn_read(c);
	if (!c->closed)
		update_events(c);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct conn *c = container_of(io, struct conn, io);

	turn_enter("client");
	(void)loop;
	if (c->tls && tls_of(c))
		events = tls_came(c->tls, events);
	if (events & EV_WRITE)
		conn_write_queued(c);
	if (!c->closed && (events & EV_READ))
		conn_read(c);
	if (!c->closed)
		update_events(c);
}

struct conn *conn_open(struct worker *w, const struct listener *listener,
    const struct conn_handler *handler, int fd, struct client_count *client)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	c->worker = w;
	c->listener = listener;
	c->handler = handler;
	c->client = client;
	c->opened = clock_microseconds();
	ev_io_init(&c->io, on_io, fd, EV_READ);
	TAILQ_INSERT_TAIL(&w->conns, c, link);
	w->conn_count++;
	METRIC_ADD(w->metrics, CONNECTIONS_OPEN, 1, 0);
	METRIC_ADD(w->metrics, CONNECTIONS, 1, 0);
	conn_next(c);
	return c;
}

/* Nothing of a request came yet, and none is being answered. */
static bool conn_idle(const struct conn *c)
{
	return c->state == CONN_HEAD && !c->head_sent && !c->request_open && !c->in_ready;
}

void conn_drain(struct conn *c)
{
	/* Closing an idle connection races with its next request: leave it a moment. */
	if (conn_idle(c))
		conn_deadline(c, idle_queue(c->worker));
}

/* A client that was told of no end goes: what it sent before ours is still served. */
static void conn_part(struct conn *c)
{
	conn_read(c);
	if (!c->closed && conn_idle(c))
		conn_linger(c);
	if (!c->closed)
		update_events(c);
}

static void on_deadline(struct timeout_queue *queue, struct timeout *timeout)
{
	struct conn *c = container_of(timeout, struct conn, deadline);
	struct worker *w = c->worker;

	c->deadline_queue = NULL;
	if (queue == &w->timeouts.client_header && c->securing) {
		handshake_failed(c);
	} else if (queue == &w->timeouts.client_header) {
		conn_refuse(
		    c, 408, "the request's head did not arrive within timeouts.client_header");
	} else if (queue == &w->timeouts.client_body) {
		c->handler->aborted(c);
		c->state = CONN_HEAD;
		conn_refuse(
		    c, 408, "the request's body did not arrive within timeouts.client_body");
	} else if (queue == &w->timeouts.client_parting) {
		conn_part(c);
	} else {
		conn_close(c);
	}
}

static void on_write_deadline(struct timeout_queue *queue, struct timeout *timeout)
{
	struct conn *c = container_of(timeout, struct conn, write_deadline);

	(void)queue;
	LOG(c->worker->log, LOG_LEVEL_INFO, "client does not read its answer: connection closed",
	    LOG_STR("client", clients_name(c->client)), LOG_UINT("unsent", buffer_length(&c->out)));
	conn_close(c);
}

void conn_timeouts_init(struct worker *w)
{
	const struct config_timeouts *after = &w->config->timeouts;
	struct worker_timeouts *t = &w->timeouts;

	timeout_queue_init(&t->client_header, w->loop, after->client_header, on_deadline);
	timeout_queue_init(&t->client_body, w->loop, after->client_body, on_deadline);
	timeout_queue_init(&t->client_idle, w->loop, after->client_idle, on_deadline);
	timeout_queue_init(&t->client_parting, w->loop, after->keepalive_linger, on_deadline);
	timeout_queue_init(&t->client_linger, w->loop, CONN_LINGER_SECONDS, on_deadline);
	timeout_queue_init(&t->client_write, w->loop, after->client_write, on_write_deadline);
}
