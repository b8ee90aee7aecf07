/* conn: see conn.h. */
#include "tests/load/upstream/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/load/upstream/answer.h"
#include "tests/load/upstream/server.h"
#include "tests/load/upstream/stream.h"

/* Bytes. More than SEND_MAX at once would keep a processor from everybody else for as long as the
 * kernel takes to copy it. */
enum { READ_SIZE = 16384, SEND_MAX = 288 * 1024, BODY_MAX = 16 << 20, REQUESTS_BUDGET = 64 };

static const struct {
	struct span name;
	enum conn_verb verb;
} verbs[] = {
    {{"POST", 4}, VERB_POST},
    {{"GET", 3}, VERB_GET},
    {{"DELETE", 6}, VERB_DELETE},
};

static void copy(char *out, struct span value)
{
	size_t n = value.n < CONN_VALUE_MAX ? value.n : 0; /* too long is unknown */

	memcpy(out, value.p, n);
	out[n] = '\0';
}

static void on_field(struct message *m, struct span name, struct span value)
{
	struct conn *c = container_of(m, struct conn, request);

	if (span_equal_nocase(name, SPAN("mcp-session-id"))) {
		c->has_session = true;
		copy(c->session_id, value);
	} else if (span_equal_nocase(name, SPAN("mcp-protocol-version"))) {
		copy(c->version, value);
	} else if (span_equal_nocase(name, SPAN("accept"))) {
		c->wants_stream = memmem(value.p, value.n, "text/event-stream", 17) != NULL;
	} else if (span_equal_nocase(name, SPAN("last-event-id"))) {
		char text[CONN_VALUE_MAX];
		copy(text, value);
		c->seen = strtoull(text, NULL, 10);
	}
}

static int on_head(struct message *m)
{
	struct conn *c = container_of(m, struct conn, request);

	c->path = span_equal(m->target, SPAN("/mcp"));
	c->close_after = m->close;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (span_equal(m->verb, verbs[i].name))
			c->verb = verbs[i].verb;
	}
	return 0;
}

static int on_body(struct message *m, struct span piece)
{
	struct conn *c = container_of(m, struct conn, request);

	if (!m->chunked && m->left == 0 && buffer_length(&c->pieces) == 0) {
		c->whole = piece;
		return 0;
	}
	return buffer_append(&c->pieces, piece.p, piece.n, BODY_MAX);
}

static const struct message_ops ops = {on_field, on_head, on_body};

static void next_request(struct conn *c)
{
	message_init(&c->request, MESSAGE_REQUEST, &ops);
	buffer_consume(&c->pieces, buffer_length(&c->pieces));
	c->whole = (struct span){0};
	c->verb = VERB_OTHER;
	c->has_session = c->wants_stream = false;
	c->session_id[0] = c->version[0] = '\0';
	c->seen = 0;
}

/* Serve what has been read. */
static void serve(struct conn *c)
{
	for (int n = 0; n < REQUESTS_BUDGET && buffer_length(&c->in) > 0; n++) {
		if (c->close_after && n > 0)
			break;
		ssize_t used = message_feed(&c->request, buffer_span(&c->in));
		if (used < 0 || c->stream != STREAM_NONE) {
			conn_close(c);
			return;
		}
		if (c->request.state == MESSAGE_DONE) {
			c->server->counts.requests++;
			answer_request(c, c->whole.p ? c->whole : buffer_span(&c->pieces));
			if (c->closed)
				return;
		}
		buffer_consume(&c->in, (size_t)used);
		if (c->request.state != MESSAGE_DONE)
			break;
		next_request(c);
	}
	conn_flush(c);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct conn *c = container_of(watcher, struct conn, readable);

	(void)loop;
	(void)events;
	if (buffer_reserve(&c->in, READ_SIZE, MESSAGE_HEAD_MAX + 2 * READ_SIZE)) {
		conn_close(c);
		return;
	}
	ssize_t n = read(c->fd, c->in.data + c->in.tail, READ_SIZE);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	c->in.tail += (uint32_t)n;
	serve(c);
}

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct conn *c = container_of(watcher, struct conn, writable);

	(void)loop;
	(void)events;
	if (c->stream != STREAM_NONE)
		stream_pump(c);
	conn_flush(c);
}

void conn_open(struct server *s, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	next_request(c);
	ev_io_init(&c->readable, on_readable, fd, EV_READ);
	ev_io_init(&c->writable, on_writable, fd, EV_WRITE);
	ev_io_start(s->loop, &c->readable);
	LIST_INSERT_HEAD(&s->conns, c, link);
	s->counts.connections++;
}

void conn_close(struct conn *c)
{
	if (c->closed)
		return;
	stream_end(c);
	ev_io_stop(c->server->loop, &c->readable);
	ev_io_stop(c->server->loop, &c->writable);
	close(c->fd);
	c->closed = true;
	LIST_REMOVE(c, link);
	LIST_INSERT_HEAD(&c->server->dead, c, link);
}

void conn_put(struct conn *c, struct span bytes)
{
	if (!c->closed && buffer_append(&c->out, bytes.p, bytes.n, CONN_OUT_MAX))
		conn_close(c);
}

void conn_flush(struct conn *c)
{
	struct span rest = buffer_span(&c->out);

	if (c->closed)
		return;
	if (rest.n > 0) {
		ssize_t n =
		    send(c->fd, rest.p, rest.n < SEND_MAX ? rest.n : SEND_MAX, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			conn_close(c);
			return;
		}
		buffer_consume(&c->out, n > 0 ? (size_t)n : 0);
	}
	if (buffer_length(&c->out) > 0)
		ev_io_start(c->server->loop, &c->writable);
	else if (ev_is_active(&c->writable))
		ev_io_stop(c->server->loop, &c->writable);
	if (buffer_length(&c->out) == 0 && c->close_after && c->stream == STREAM_NONE)
		conn_close(c);
}

void conn_free(struct conn *c)
{
	buffer_release(&c->in);
	buffer_release(&c->pieces);
	buffer_release(&c->out);
	free(c);
}
