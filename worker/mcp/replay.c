/* replay: see replay.h. */
#include "worker/mcp/replay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/ipc/wire.h"

enum { EVENTS_MAX = 256, BYTES_MAX = 1024 * 1024, EVENT_HEAD = 5 };
enum { HEARD_MAX = 8 * 1024 * 1024, UNHEARD_MAX = 64 * 1024 * 1024 };

static const double prime_after = 1, heard_for = 10, unheard_for = 60; /* seconds */

struct event {
	TAILQ_ENTRY(event) link;
	uint32_t number;
	bool last;
	size_t n;
	char p[];
};

struct replay {
	struct worker *worker;
	struct errand *errand; /* NULL: it said the answer */
	struct session_id client;
	struct mailbox box;
	TAILQ_HEAD(event_list, event) events;
	unsigned count;
	size_t bytes;
	uint32_t last;
	struct replay_shelf *shelf; /* NULL: on none */
	struct timeout ending;
	char line[REPLAY_ID_MAX + 8];
};

/* --- ids --- */

void replay_id_format(const struct mail_box_id *box, uint32_t number, char out[REPLAY_ID_MAX])
{
	char text[MAIL_BOX_TEXT + 1];

	mail_box_format(box, text);
	snprintf(out, REPLAY_ID_MAX, "%s-%u", text, number);
}

bool replay_id_parse(struct span text, struct mail_box_id *box, uint32_t *number)
{
	uint64_t value = 0;

	if (text.n < MAIL_BOX_TEXT + 2 || text.n > MAIL_BOX_TEXT + 11 ||
	    !mail_box_parse((struct span){text.p, MAIL_BOX_TEXT}, box) ||
	    text.p[MAIL_BOX_TEXT] != '-')
		return false;
	for (size_t i = MAIL_BOX_TEXT + 1; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(text.p[i] - '0');
	}
	*number = (uint32_t)value;
	return value <= UINT32_MAX;
}

/* --- on the wire --- */

int replay_ask_put(const struct replay_ask *ask, struct buffer *out)
{
	char bytes[SESSION_ID_BYTES + MAIL_BOX_BYTES + 4];
	struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};

	wire_put_bytes(&w, ask->session.bytes, sizeof(ask->session.bytes));
	wire_put_bytes(&w, ask->reader.bytes, sizeof(ask->reader.bytes));
	wire_put_u32(&w, ask->after);
	return buffer_append(out, bytes, w.length, MAIL_INLINE_MAX);
}

static bool ask_get(struct span mail, struct replay_ask *out)
{
	struct wire_reader r = {.p = mail.p, .length = mail.n};

	wire_get_bytes(&r, out->session.bytes, sizeof(out->session.bytes));
	wire_get_bytes(&r, out->reader.bytes, sizeof(out->reader.bytes));
	out->after = wire_get_u32(&r);
	return wire_complete(&r);
}

bool replay_event_get(struct span mail, struct replay_event *out)
{
	if (mail.n < EVENT_HEAD)
		return false;
	out->last = mail.p[0] != 0;
	memcpy(&out->number, mail.p + 1, sizeof(out->number));
	out->message = (struct span){mail.p + EVENT_HEAD, mail.n - EVENT_HEAD};
	return true;
}

/* False when nobody is there to get it. */
static bool mail_event(
    const struct replay *p, const struct mail_box_id *reader, const struct event *e)
{
	struct buffer mail = {0};
	char head[EVENT_HEAD] = {e->last};

	memcpy(head + 1, &e->number, sizeof(e->number));
	int error = buffer_append(&mail, head, sizeof(head), MAIL_MAX);
	if (!error)
		error = buffer_append(&mail, e->p, e->n, MAIL_MAX);
	if (!error)
		error = sessions_mail_long(p->worker->sessions, reader, MAIL_EVENT, &mail, NULL);
	buffer_release(&mail);
	return error == 0;
}

/* --- after the answer --- */

static void event_free(struct replay *p, struct event *e)
{
	TAILQ_REMOVE(&p->events, e, link);
	p->count--;
	p->bytes -= e->n;
	free(e);
}

/* On a shelf it does not change. */
static size_t size_of(const struct replay *p)
{
	return sizeof(*p) + p->bytes + p->count * sizeof(struct event);
}

static void unshelve(struct replay *p)
{
	if (!p->shelf)
		return;
	p->shelf->room += (ptrdiff_t)size_of(p);
	timeout_disarm(&p->shelf->queue, &p->ending);
	p->shelf = NULL;
}

static void replay_free(struct replay *p)
{
	unshelve(p);
	mailbox_close(&p->box);
	while (!TAILQ_EMPTY(&p->events))
		event_free(p, TAILQ_FIRST(&p->events));
	free(p);
}

static struct replay *oldest_on(const struct replay_shelf *s)
{
	return container_of(TAILQ_FIRST(&s->queue.list), struct replay, ending);
}

/* The newest stays whatever its length. */
static void shelve(struct replay *p, struct replay_shelf *s)
{
	unshelve(p);
	p->shelf = s;
	s->room -= (ptrdiff_t)size_of(p);
	timeout_arm(&s->queue, &p->ending);
	while (s->room < 0 && oldest_on(s) != p)
		replay_free(oldest_on(s));
	worker_check_done(p->worker);
}

static void on_shelf_over(struct timeout_queue *queue, struct timeout *timeout)
{
	struct replay *p = container_of(timeout, struct replay, ending);
	struct worker *w = p->worker;

	(void)queue;
	replay_free(p);
	worker_check_done(w);
}

/* --- the reader --- */

static void refuse(struct replay *p, const struct mail_box_id *reader)
{
	if (sessions_mail(p->worker->sessions, reader, MAIL_GONE, SPAN("x"), NULL))
		LOG_TEXT(p->worker->log, LOG_LEVEL_WARN, "a client can't be told to start anew");
}

/* What comes now is for the reader: the connection that was there before is of no use any more. */
static void turn_to(struct errand *r, const struct mail_box_id *reader)
{
	struct exchange *x = r->exchange;

	r->retry = *reader;
	r->remote = true;
	if (!x)
		return;
	x->errand = NULL;
	r->exchange = NULL;
	relay_over(x, UPSTREAM_OK, "");
}

static void on_ask(struct replay *p, const struct replay_ask *ask)
{
	struct event *first = TAILQ_FIRST(&p->events), *e;
	uint32_t oldest = first ? first->number : p->last + 1;

	if (memcmp(&ask->session, &p->client, sizeof(ask->session)) != 0 || ask->after > p->last ||
	    ask->after + 1 < oldest) {
		refuse(p, &ask->reader);
		return;
	}
	if (p->errand)
		turn_to(p->errand, &ask->reader);
	TAILQ_FOREACH (e, &p->events, link) {
		if (e->number > ask->after && !mail_event(p, &ask->reader, e))
			return;
	}
	if (p->shelf == &p->worker->replays_unheard)
		shelve(p, &p->worker->replays_heard);
}

static void on_mail(
    struct mailbox *box, enum mail_kind kind, struct span payload, struct mapping *memory)
{
	struct replay *p = container_of(box, struct replay, box);
	struct errand *r = p->errand;
	struct replay_ask ask;

	(void)memory;
	if (kind == MAIL_REPLAY && ask_get(payload, &ask))
		on_ask(p, &ask);
	else if (kind == MAIL_GONE && r && r->remote && payload.n == sizeof(r->retry) &&
		 memcmp(payload.p, &r->retry, sizeof(r->retry)) == 0)
		r->remote = false;
}

static void on_opened(struct mailbox *box, int status)
{
	/* A client that can't go on is one that lost its connection: no worse than without. */
	(void)box;
	(void)status;
}

/* --- what is kept --- */

static struct replay *replay_of(struct errand *r)
{
	struct replay *p = r->replay;

	if (p || !mcp_versions[r->translation.revision].resumes)
		return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->worker = r->worker;
	p->errand = r;
	p->client = r->client;
	p->box.opened = on_opened;
	p->box.mail = on_mail;
	TAILQ_INIT(&p->events);
	if (mailbox_open(r->worker, &p->box)) {
		free(p);
		return NULL;
	}
	r->replay = p;
	return p;
}

void replay_keep(struct errand *r, struct span message, bool last)
{
	struct replay *p = replay_of(r);
	struct event *e = p ? malloc(sizeof(*e) + message.n) : NULL;

	if (!p)
		return;
	p->last++;
	if (!e) {
		/* What came before is of no use without it. */
		while (!TAILQ_EMPTY(&p->events))
			event_free(p, TAILQ_FIRST(&p->events));
		return;
	}
	e->number = p->last;
	e->last = last;
	e->n = message.n;
	memcpy(e->p, message.p, message.n);
	TAILQ_INSERT_TAIL(&p->events, e, link);
	p->count++;
	p->bytes += e->n;
	/* The newest is kept whatever its length: it may be the answer. */
	while (p->count > 1 && (p->count > EVENTS_MAX || p->bytes > BYTES_MAX))
		event_free(p, TAILQ_FIRST(&p->events));
}

struct span replay_line(struct errand *r)
{
	struct replay *p = r->replay;
	char id[REPLAY_ID_MAX];

	if (!p)
		return (struct span){0};
	replay_id_format(&p->box.id, p->last, id);
	int n = snprintf(p->line, sizeof(p->line), "id: %s\n", id);
	return (struct span){p->line, (size_t)n};
}

void replay_mail(struct errand *r)
{
	struct event *e = r->replay ? TAILQ_LAST(&r->replay->events, event_list) : NULL;

	if (!e || !mail_event(r->replay, &r->retry, e))
		r->remote = false;
}

/* --- answers that take long --- */

void replay_expect(struct errand *r)
{
	if (mcp_versions[r->translation.revision].primes)
		timeout_arm(&r->worker->timeouts.replay_prime, &r->prime);
}

static void on_prime(struct timeout_queue *queue, struct timeout *timeout)
{
	struct errand *r = container_of(timeout, struct errand, prime);
	struct exchange *x = r->exchange;
	struct conn *c = x ? x->conn : NULL;
	char text[REPLAY_ID_MAX + 64];

	(void)queue;
	if (!x || x->answering || !replay_of(r))
		return;
	struct span line = replay_line(r);
	int n = snprintf(text, sizeof(text), "%.*sretry: 1000\ndata: \n\n", (int)line.n, line.p);
	relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		relay_piece(x, (struct span){text, (size_t)n});
	if (c->exchange == x)
		conn_flush(c);
}

void replay_leave(struct errand *r)
{
	struct replay *p = r->replay;
	struct event *e = p ? TAILQ_LAST(&p->events, event_list) : NULL;
	struct worker *w = r->worker;

	timeout_disarm(&w->timeouts.replay_prime, &r->prime);
	r->replay = NULL;
	if (!p)
		return;
	p->errand = NULL;
	if (e && e->last)
		shelve(p, errand_is_heard(r) ? &w->replays_heard : &w->replays_unheard);
	else
		replay_free(p);
}

void replay_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.replay_prime, w->loop, prime_after, on_prime);
	timeout_queue_init(&w->replays_heard.queue, w->loop, heard_for, on_shelf_over);
	timeout_queue_init(&w->replays_unheard.queue, w->loop, unheard_for, on_shelf_over);
	w->replays_heard.room = HEARD_MAX;
	w->replays_unheard.room = UNHEARD_MAX;
}

bool replays_awaited(const struct worker *w)
{
	return !TAILQ_EMPTY(&w->replays_unheard.queue.list);
}

static void clear(struct replay_shelf *s)
{
	while (!TAILQ_EMPTY(&s->queue.list))
		replay_free(oldest_on(s));
}

void replays_close(struct worker *w)
{
	clear(&w->replays_heard);
	clear(&w->replays_unheard);
}
