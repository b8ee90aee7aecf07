/* stream: see stream.h. */
#include "tests/load/upstream/stream.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/buffer.h"
#include "tests/load/upstream/conn.h"
#include "tests/load/upstream/server.h"
#include "tests/load/upstream/session.h"

enum { EVENT_MAX = 1024, WAITING_MAX = 65536 };

static const char head[] = "HTTP/1.1 200 OK\r\n"
			   "Content-Type: text/event-stream\r\n"
			   "Cache-Control: no-store\r\n"
			   "Transfer-Encoding: chunked\r\n\r\n";

static void put_event(struct conn *c, const char *text, int n)
{
	char size[16];

	conn_put(
	    c, (struct span){size, (size_t)snprintf(size, sizeof(size), "%x\r\n", (unsigned)n)});
	conn_put(c, (struct span){text, (size_t)n});
	conn_put(c, SPAN("\r\n"));
	c->server->counts.events++;
}

static void begin(struct conn *c, enum conn_stream kind)
{
	c->stream = kind;
	LIST_INSERT_HEAD(&c->server->streams, c, stream_link);
	conn_put(c, SPAN(head));
}

void stream_session(struct conn *c, struct session *s)
{
	if (s->stream)
		stream_finish(s->stream);
	session_listen(&c->server->sessions, s);
	s->stream = c;
	c->session = s;
	c->next = session_next(s, c->seen);
	begin(c, STREAM_SESSION);
	stream_pump(c);
}

void stream_listen(struct conn *c, struct span id, struct span acknowledged)
{
	char text[EVENT_MAX];

	memcpy(c->listen_id, id.p, id.n);
	c->listen_id[id.n] = '\0';
	begin(c, STREAM_LISTEN);
	int n = snprintf(text, sizeof(text),
	    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\","
	    "\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s},"
	    "\"notifications\":%.*s}}\n\n",
	    c->listen_id, (int)acknowledged.n, acknowledged.p);
	put_event(c, text, n);
}

static void put_message(struct conn *c, uint64_t number)
{
	char text[EVENT_MAX];
	int n = snprintf(text, sizeof(text),
	    "id: %" PRIu64 "\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\","
	    "\"params\":{\"level\":\"info\",\"logger\":\"load\",\"data\":%" PRIu64 "}}\n\n",
	    number, number);

	put_event(c, text, n);
}

static void put_changed(struct conn *c)
{
	char text[EVENT_MAX];
	int n = snprintf(text, sizeof(text),
	    "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\","
	    "\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s}}}\n\n",
	    c->listen_id);

	put_event(c, text, n);
}

void stream_pump(struct conn *c)
{
	if (c->stream != STREAM_SESSION)
		return;
	while (!c->closed && c->next <= c->session->last && buffer_length(&c->out) < WAITING_MAX)
		put_message(c, c->next++);
}

void streams_tick(struct server *s)
{
	struct conn *next;

	for (struct conn *c = LIST_FIRST(&s->streams); c; c = next) {
		next = LIST_NEXT(c, stream_link);
		if (c->stream == STREAM_LISTEN && buffer_length(&c->out) < WAITING_MAX)
			put_changed(c);
		stream_pump(c);
		conn_flush(c);
	}
}

void stream_end(struct conn *c)
{
	if (c->stream == STREAM_NONE)
		return;
	LIST_REMOVE(c, stream_link);
	if (c->session)
		c->session->stream = NULL;
	c->session = NULL;
	c->stream = STREAM_NONE;
}

void stream_finish(struct conn *c)
{
	stream_end(c);
	c->close_after = true;
	conn_put(c, SPAN("0\r\n\r\n"));
	conn_flush(c);
}
