/*
 * answer: how the answer of a conn (conn.h) is framed: head, pieces or chunks, end.
 *
 * All is gathered and given to conn_flush; what becomes of it on the connection is conn.c's.
 */
#include <stdio.h>

#include "common/decimal.h"
#include "worker/http/conn.h"
#include "worker/http/date.h"
#include "worker/http/status.h"
#include "worker/policy/clients.h"
#include "worker/worker.h"

static bool put_length(struct gather *g, int64_t length)
{
	char text[DECIMAL_TEXT];

	return gather_copy(g, SPAN("Content-Length: ")) &&
	       gather_copy(g, decimal(text, (uint64_t)length)) && gather_copy(g, SPAN("\r\n"));
}

void conn_begin(
    struct conn *c, unsigned status, int64_t content_length, struct span headers, struct span more)
{
	static const struct span none = {0};
	struct gather *g = &c->worker->gather;

	if (c->closed)
		return;
	c->state = CONN_ANSWERING;
	conn_deadline(c, NULL);
	c->chunked = content_length == CONN_LENGTH_UNKNOWN && !c->http10;
	if (!c->reader.message_done || c->worker->draining ||
	    (content_length == CONN_LENGTH_UNKNOWN && c->http10))
		c->close_after = true;
	struct span connection = c->close_after ? SPAN("Connection: close\r\n")
				 : c->http10    ? SPAN("Connection: keep-alive\r\n")
						: none;
	gather_reset(g);
	if (!gather_copy(g, status_line(status)) ||
	    !gather_copy(g, date_line(&c->worker->date, (time_t)ev_now(c->worker->loop))) ||
	    !gather_copy(g, connection) ||
	    !gather_copy(g, c->chunked ? SPAN("Transfer-Encoding: chunked\r\n") : none) ||
	    (content_length >= 0 && !put_length(g, content_length)) || !gather_copy(g, headers) ||
	    !gather_copy(g, more) || !gather_copy(g, SPAN("\r\n")))
		conn_break(c);
}

/* One piece as it stands, or as a chunk of its own (RFC 9112, 7.1). */
static bool add_piece(struct conn *c, struct span piece)
{
	struct gather *g = &c->worker->gather;
	char size[20];

	if (!c->chunked)
		return gather_add(g, piece);
	int n = snprintf(size, sizeof(size), "%zx\r\n", piece.n);
	if (g->count + 3 > GATHER_PIECES || GATHER_TEXT - g->text_used < sizeof(size) + 2)
		return false;
	return gather_copy(g, (struct span){size, (size_t)n}) && gather_add(g, piece) &&
	       gather_copy(g, SPAN("\r\n"));
}

void conn_body(struct conn *c, struct span piece)
{
	if (c->closed || piece.n == 0 || add_piece(c, piece))
		return;
	conn_flush(c);
	if (!c->closed && !add_piece(c, piece))
		conn_break(c);
}

void conn_end(struct conn *c)
{
	if (c->closed)
		return;
	if (c->chunked && !gather_copy(&c->worker->gather, SPAN("0\r\n\r\n"))) {
		conn_flush(c);
		if (c->closed)
			return;
		if (!gather_copy(&c->worker->gather, SPAN("0\r\n\r\n"))) {
			conn_break(c);
			return;
		}
	}
	conn_flush(c);
	if (c->closed)
		return;
	c->state = CONN_HEAD;
	c->head_sent = true;
	if (conn_all_sent(c))
		conn_answered(c);
}

void conn_break(struct conn *c)
{
	gather_reset(&c->worker->gather);
	conn_close(c);
}

void conn_answer(struct conn *c, unsigned status, struct span headers, struct span body)
{
	conn_begin(c, status, status == 202 && body.n == 0 ? 0 : (int64_t)body.n, headers,
	    (struct span){0});
	conn_body(c, body);
	conn_end(c);
}

void conn_refuse(struct conn *c, unsigned status, const char *reason)
{
	struct worker *w = c->worker;
	struct buffer body = {0};

	METRIC_ADD(w->metrics, REQUESTS, 1, 0, METRIC_METHOD_OTHER, METRIC_OUTCOME_REJECTED);
	LOG(w->log, LOG_LEVEL_INFO, "request refused", LOG_STR("client", clients_name(c->client)),
	    LOG_UINT("status", status), LOG_STR("reason", reason));
	c->close_after = true;
	if (status_error_body(&body, (struct span){0}, -32600, reason, (struct span){0}))
		conn_close(c);
	else
		conn_answer(
		    c, status, SPAN("Content-Type: application/json\r\n"), buffer_span(&body));
	buffer_release(&body);
}
