/* resume: see resume.h. */
#include "worker/mcp/resume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/raw.h"
#include "worker/mcp/giving.h"
#include "worker/mcp/replay.h"
#include "worker/mcp/seal.h"
#include "worker/mcp/translate/translate.h"
#include "worker/route.h"

/* How often it is made sure that the parked call is still there. */
static const double probe_every = 1; /* seconds */

struct resume {
	struct exchange *exchange;
	struct mailbox box;
	struct mail_box_id parked;
	uint32_t round;
	struct session_call telling;
	struct timeout probe;
	bool told, answered;
	bool stream; /* a legacy client's, after the event `round` */
};

/* --- on the wire --- */

static int resumption_put(const struct resumption *r, struct buffer *out)
{
	char head[MAIL_BOX_BYTES + 4];
	struct wire_writer w = {.p = head, .capacity = sizeof(head)};
	uint32_t lengths[] = {(uint32_t)r->id.n, (uint32_t)r->token.n};

	wire_put_bytes(&w, r->retry.bytes, sizeof(r->retry.bytes));
	wire_put_u32(&w, r->round);
	int error = buffer_append(out, head, w.length, MAIL_MAX);
	if (!error)
		error = buffer_append(out, lengths, sizeof(lengths), MAIL_MAX);
	if (!error)
		error = buffer_append(out, r->id.p, r->id.n, MAIL_MAX);
	if (!error && r->token.n > 0)
		error = buffer_append(out, r->token.p, r->token.n, MAIL_MAX);
	if (!error && r->answers.n > 0)
		error = buffer_append(out, r->answers.p, r->answers.n, MAIL_MAX);
	return error;
}

bool resumption_get(struct span mail, struct resumption *out)
{
	struct wire_reader r = {.p = mail.p, .length = mail.n};

	wire_get_bytes(&r, out->retry.bytes, sizeof(out->retry.bytes));
	out->round = wire_get_u32(&r);
	size_t id = wire_get_u32(&r), token = wire_get_u32(&r);
	struct span rest = {mail.p + r.offset, mail.n - r.offset};
	if (r.error || id > rest.n || token > rest.n - id)
		return false;
	out->id = (struct span){rest.p, id};
	out->token = (struct span){rest.p + id, token};
	out->answers = (struct span){rest.p + id + token, rest.n - id - token};
	return true;
}

/* --- what the call says --- */

static void give(struct resume *s, struct span message, unsigned status)
{
	struct exchange *x = s->exchange;
	struct conn *c = x->conn;

	if (status > 0 && !x->answering) {
		relay_answer(x, status, message, (struct span){0});
		return;
	}
	if (!x->answering)
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		relay_event(x, message);
	if (c->exchange == x && status > 0)
		relay_over(x, UPSTREAM_OK, "");
}

/* Too long to be given at once: the exchange has it from now on. */
static void give_long(
    struct exchange *x, struct span message, unsigned status, struct mapping *memory)
{
	struct conn *c = x->conn;

	x->expected = message.n;
	relay_begin(x, status, (int64_t)message.n, false, (struct span){0});
	if (c->exchange == x && giving_start_mapped(x, message, memory))
		conn_break(c);
}

/* The answer, or a refusal: only that has no status. */
static void on_answer(struct resume *s, struct span payload, struct mapping *memory)
{
	struct exchange *x = s->exchange;
	uint16_t status;

	if (payload.n < sizeof(status))
		return;
	memcpy(&status, payload.p, sizeof(status));
	struct span message = {payload.p + sizeof(status), payload.n - sizeof(status)};
	s->answered = true;
	if (status > 0 && !x->answering && message.n > GIVING_SHORT)
		give_long(x, message, status, memory);
	else if (status > 0)
		give(s, message, status);
	else
		exchange_refuse(x, REPLY_STATE_USED, NULL, (struct span){0});
}

/* What a legacy client missed, or what comes now. */
static void on_event(struct resume *s, struct span payload)
{
	struct exchange *x = s->exchange;
	struct conn *c = x->conn;
	struct replay_event e;
	char id[REPLAY_ID_MAX], line[REPLAY_ID_MAX + 8];

	if (!replay_event_get(payload, &e))
		return;
	replay_id_format(&s->parked, e.number, id);
	int n = snprintf(line, sizeof(line), "id: %s\n", id);
	if (!x->answering)
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		relay_piece(x, (struct span){line, (size_t)n});
	if (c->exchange == x)
		relay_event(x, e.message);
	s->answered = e.last;
	if (c->exchange == x && e.last)
		relay_over(x, UPSTREAM_OK, "");
}

static void on_mail(
    struct mailbox *box, enum mail_kind kind, struct span payload, struct mapping *memory)
{
	struct resume *s = container_of(box, struct resume, box);

	if (s->answered)
		return;
	if (kind == MAIL_EVENT && s->stream)
		on_event(s, payload);
	else if (kind == MAIL_GONE && s->stream && !s->exchange->answering)
		exchange_refuse(s->exchange, REPLY_REPLAY, NULL, (struct span){0});
	else if (kind == MAIL_MESSAGE)
		give(s, payload, 0);
	else if (kind == MAIL_ANSWER)
		on_answer(s, payload, memory);
}

/* --- what it is told --- */

static void begin_quietly(struct exchange *x)
{
	struct conn *c = x->conn;

	relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		conn_flush(c);
}

static void on_told(struct session_call *call, int status, const struct session_record *record)
{
	struct resume *s = container_of(call, struct resume, telling);
	struct exchange *x = s->exchange;

	(void)record;
	if (status == 0) {
		/* It is there but has nothing to say yet: the client need not wait for the head. */
		if (s->stream && s->told && !x->answering)
			begin_quietly(x);
		s->told = true;
		timeout_arm(&x->worker->timeouts.retry_probe, &s->probe);
	} else if (status == -ENOENT && !x->answering) {
		exchange_refuse(
		    x, s->stream ? REPLY_REPLAY : REPLY_CALL_LOST, NULL, (struct span){0});
	} else if (status == -ENOENT) {
		relay_over(x, METRIC_REASON_CLOSED, "the call is lost; it is not made again");
	} else if (!s->told) {
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
	} else {
		timeout_arm(&x->worker->timeouts.retry_probe, &s->probe);
	}
}

static void tell(struct resume *s, enum mail_kind kind, struct buffer *payload)
{
	struct exchange *x = s->exchange;

	s->telling.done = on_told;
	if (sessions_mail_long(x->worker->sessions, &s->parked, kind, payload, &s->telling))
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
}

static void on_probe(struct timeout_queue *queue, struct timeout *timeout)
{
	struct buffer nothing = {0};

	(void)queue;
	tell(container_of(timeout, struct resume, probe), MAIL_PROBE, &nothing);
}

static void ask_for_events(struct resume *s)
{
	struct exchange *x = s->exchange;
	struct replay_ask ask = {.session = x->session, .reader = s->box.id, .after = s->round};
	struct buffer mail = {0};

	if (replay_ask_put(&ask, &mail))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
	else
		tell(s, MAIL_REPLAY, &mail);
	buffer_release(&mail);
}

/* Our box is known, so that the call can answer: tell it. */
static void on_opened(struct mailbox *box, int status)
{
	struct resume *s = container_of(box, struct resume, box);
	struct exchange *x = s->exchange;
	struct buffer mail = {0};

	if (s->stream && !status) {
		ask_for_events(s);
		return;
	}
	const struct envelope *e = s->stream ? NULL : exchange_message(x);
	if (status || !e) {
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
		return;
	}
	struct resumption r = {
	    .retry = s->box.id, .round = s->round, .id = x->id, .token = e->progress_token};
	struct span answers = envelope_member(e, e->params, "inputResponses");
	if (answers.p && answers.p[0] == '{')
		r.answers = answers;
	if (resumption_put(&r, &mail))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
	else
		tell(s, MAIL_RESUME, &mail);
	buffer_release(&mail);
}

/* Whether the state is ours, of this request, and not too old. */
static bool is_valid(
    struct exchange *x, const struct envelope *e, struct span state, struct ticket *ticket)
{
	const struct upstream *u = x->route->upstream;
	uint8_t digest[SEAL_DIGEST];

	if (state.n < 2 || state.p[0] != '"')
		return false;
	state = (struct span){state.p + 1, state.n - 2};
	return seal_open(state, x->worker->boot->session_key, span_of(u->config->name), ticket) &&
	       (double)ticket->expires >= clock_coarse() && seal_digest(e, digest) &&
	       memcmp(digest, ticket->digest, sizeof(digest)) == 0;
}

static void resume_open(
    struct exchange *x, const struct mail_box_id *box, uint32_t round, bool stream)
{
	struct resume *s = calloc(1, sizeof(*s));

	if (!s) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	s->exchange = x;
	s->parked = *box;
	s->round = round;
	s->stream = stream;
	s->box.opened = on_opened;
	s->box.mail = on_mail;
	x->resume = s;
	x->upstream_started = clock_microseconds();
	if (mailbox_open(x->worker, &s->box))
		exchange_refuse(x, REPLY_BROKER_AWAY, NULL, (struct span){0});
}

bool resume_start(struct exchange *x, const struct envelope *e)
{
	struct ticket ticket;

	if (!x->method->asks)
		return false;
	struct span state = envelope_member(e, e->params, "requestState");
	if (!state.p)
		return false;
	if (is_valid(x, e, state, &ticket))
		resume_open(x, &ticket.box, ticket.round, false);
	else
		exchange_refuse(x, REPLY_STATE, NULL, (struct span){0});
	return true;
}

/* As admission kept it. */
static struct span last_event_id(const struct exchange *x)
{
	static const struct span name = {"last-event-id: ", 15};
	struct span lines = buffer_span(&x->forward);
	const char *at = memmem(lines.p, lines.n, name.p, name.n);
	const char *end = at ? memchr(at, '\r', (size_t)(lines.p + lines.n - at)) : NULL;

	return end ? (struct span){at + name.n, (size_t)(end - at) - name.n} : (struct span){0};
}

bool resume_stream(struct exchange *x)
{
	struct mail_box_id box;
	uint32_t number;

	if (!replay_id_parse(last_event_id(x), &box, &number))
		return false;
	resume_open(x, &box, number, true);
	return true;
}

void resume_leave(struct exchange *x)
{
	struct resume *s = x->resume;
	struct worker *w = x->worker;
	struct span retry = {(const char *)s->box.id.bytes, sizeof(s->box.id.bytes)};

	session_call_cancel(w->sessions, &s->telling);
	timeout_disarm(&w->timeouts.retry_probe, &s->probe);
	if (s->told && !s->answered &&
	    sessions_mail(w->sessions, &s->parked, MAIL_GONE, retry, NULL))
		LOG_TEXT(w->log, LOG_LEVEL_WARN, "a call does not know that its client went");
	mailbox_close(&s->box);
}

void resume_free(struct exchange *x)
{
	free(x->resume);
}

void resume_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.retry_probe, w->loop, probe_every, on_probe);
}
