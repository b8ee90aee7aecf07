/* parked: see parked.h. */
#include "worker/mcp/parked.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/raw.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/resume.h"
#include "worker/mcp/seal.h"
#include "worker/route.h"

enum { ASKS_MAX = 16, ASK_SIZE_MAX = 1 << 20, GIVE_UP_BUDGET = 50 };

/* What an upstream asks at once it is to be told at once. */
static const double ask_window = 0.02;     /* seconds */
static const double give_up_pause = 0.001; /* seconds */

struct ask {
	TAILQ_ENTRY(ask) link;
	unsigned number;                /* its key towards the client */
	struct buffer text;             /* the question as it came */
	struct span id, method, params; /* in text; method without escapes */
};

struct parked {
	struct errand *errand;
	struct mailbox box;
	TAILQ_HEAD(asks, ask) asks; /* not answered yet */
	unsigned ask_count, last_ask;
	uint32_t round; /* of questions to the client */
	bool known, waiting,
	    ended;               /* the box to the broker; for the client; the upstream's answer */
	struct mail_box_id last; /* the retry that answered last */
	uint8_t digest[SEAL_DIGEST];
	struct timeout window, patience;
	struct buffer held;   /* the upstream's answer, until the client is back */
	struct buffer client; /* id and progress token of the retry */
};

/* --- questions --- */

static void ask_discard(struct ask *a)
{
	if (a)
		buffer_release(&a->text);
	free(a);
}

static void ask_free(struct parked *p, struct ask *a)
{
	TAILQ_REMOVE(&p->asks, a, link);
	p->ask_count--;
	ask_discard(a);
}

/* Write a response of ours to the upstream. */
static void respond(struct errand *r, const struct ask *a, const char *kind, struct span value)
{
	struct buffer body = {0};
	struct compose c = {.out = &body, .bound = ERRAND_MESSAGE_MAX};

	translate_begin(&c, a->id);
	compose_member(&c, kind, value);
	compose_close(&c, '}');
	if (!c.error)
		aside_post(r->call.upstream, r->record, buffer_span(&body));
	buffer_release(&body);
}

/* The client will not answer. There is no other word for it than this (mcp-wire 3.3). */
static void decline(struct errand *r, const struct ask *a)
{
	if (span_equal(a->method, SPAN("elicitation/create")))
		respond(r, a, "result", SPAN("{\"action\":\"cancel\"}"));
	else
		respond(
		    r, a, "error", SPAN("{\"code\":-1,\"message\":\"the client did not answer\"}"));
}

/* What every answer must have at least; one that lacks it counts as none. */
static bool is_answer(const struct ask *a, struct span value)
{
	static const struct {
		struct span method;
		const char *member;
	} needed[] = {
	    {{"elicitation/create", 18}, "action"},
	    {{"sampling/createMessage", 22}, "content"},
	    {{"roots/list", 10}, "roots"},
	};
	struct span member;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (span_equal(needed[i].method, a->method))
			return raw_member(value, needed[i].member, &member);
	}
	return false;
}

/* --- input_required --- */

static void put_questions(struct compose *c, const struct parked *p)
{
	static const char *const legacy[] = {"_meta", "task", "elicitationId", NULL};
	const struct ask *a;
	char key[16];

	compose_key(c, "inputRequests");
	compose_open(c, '{');
	TAILQ_FOREACH (a, &p->asks, link) {
		snprintf(key, sizeof(key), "ask-%u", a->number);
		compose_key(c, key);
		compose_open(c, '{');
		compose_text(c, "method", a->method);
		compose_key(c, "params");
		compose_open(c, '{');
		if (a->params.p)
			compose_members(c, a->params, legacy);
		compose_close(c, '}');
		compose_close(c, '}');
	}
	compose_close(c, '}');
}

static void put_required(struct compose *c, const struct parked *p, const char *state)
{
	const struct translation *t = &p->errand->translation;

	translate_begin(c, t->id);
	compose_key(c, "result");
	compose_open(c, '{');
	compose_text(c, "resultType", SPAN("input_required"));
	put_questions(c, p);
	compose_text(c, "requestState", span_of(state));
	if (t->server_info.n > 0) {
		compose_key(c, "_meta");
		compose_open(c, '{');
		compose_member(c, "io.modelcontextprotocol/serverInfo", t->server_info);
		compose_close(c, '}');
	}
	compose_close(c, '}');
	compose_close(c, '}');
}

/* Tell the client what it is asked, when all is there that it takes. */
static void ask_client(struct parked *p)
{
	struct errand *r = p->errand;
	struct worker *w = r->worker;
	struct ticket ticket = {.box = p->box.id, .capabilities = r->capabilities};
	char state[SEAL_TEXT_MAX];

	if (!p->known || p->waiting || timeout_armed(&p->window) || TAILQ_EMPTY(&p->asks) ||
	    !errand_is_heard(r))
		return;
	ticket.round = ++p->round;
	ticket.expires = (uint64_t)(clock_coarse() + w->config->timeouts.client_input);
	memcpy(ticket.digest, p->digest, sizeof(p->digest));
	if (!seal_close(
		&ticket, w->boot->session_key, span_of(r->call.upstream->config->name), state)) {
		errand_fail(r, METRIC_REASON_LIMIT, "the machine has no random numbers");
		return;
	}
	p->waiting = true;
	timeout_arm(&w->timeouts.client_input, &p->patience);
	upstream_call_endless(&r->call, true);
	struct compose c = errand_compose(r);
	put_required(&c, p, state);
	errand_interrupt(r, &c);
}

static void on_window_over(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	ask_client(container_of(timeout, struct parked, window));
}

static void on_opened(struct mailbox *box, int status)
{
	struct parked *p = container_of(box, struct parked, box);

	if (status) {
		errand_fail(p->errand, METRIC_REASON_LIMIT, "the session broker does not answer");
		return;
	}
	p->known = true;
	ask_client(p);
}

/* --- the client is back --- */

/* Its sender knows what an answer without a status means (resume.c). */
static void refuse(struct parked *p, const struct mail_box_id *retry)
{
	static const char answer[] = "\0\0{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{}}";
	struct worker *w = p->errand->worker;

	if (sessions_mail(w->sessions, retry, MAIL_ANSWER, SPAN(answer), NULL))
		LOG_TEXT(w->log, LOG_LEVEL_WARN, "a retry could not be refused");
}

static void take_answers(struct parked *p, struct span answers)
{
	struct ask *a, *next;
	struct span value;
	char key[16];

	TAILQ_FOREACH_SAFE (a, &p->asks, link, next) {
		snprintf(key, sizeof(key), "ask-%u", a->number);
		if (!raw_object(answers, key, &value) || !is_answer(a, value))
			continue;
		respond(p->errand, a, "result", value);
		ask_free(p, a);
	}
}

/* What the upstream said meanwhile. */
static void go_on(struct parked *p)
{
	struct errand *r = p->errand;
	struct span held = buffer_span(&p->held);

	if (held.n > SCANNING_SHORT) {
		errand_take_long(r, &p->held);
	} else if (held.n > 0) {
		errand_take(r, held);
		if (r->answered && !r->closed)
			errand_deliver(r);
	} else if (p->ended) {
		errand_fail(
		    r, METRIC_REASON_CLOSED, "it ended its answer while the client was asked");
	} else {
		upstream_call_endless(&r->call, false);
		/* Not all was answered: ask for the rest at once. */
		ask_client(p);
	}
}

static void on_resume(struct parked *p, struct span payload)
{
	struct errand *r = p->errand;
	struct resumption m;

	/* Mail may come twice when the broker was away. */
	if (!resumption_get(payload, &m) || memcmp(&m.retry, &p->last, sizeof(m.retry)) == 0)
		return;
	if (!p->waiting || m.round != p->round) {
		refuse(p, &m.retry);
		return;
	}
	buffer_consume(&p->client, buffer_length(&p->client));
	if (buffer_append(&p->client, m.id.p, m.id.n, ERRAND_MESSAGE_MAX) ||
	    buffer_append(&p->client, m.token.p, m.token.n, ERRAND_MESSAGE_MAX))
		return;
	p->waiting = false;
	p->last = m.retry;
	timeout_disarm(&r->worker->timeouts.client_input, &p->patience);
	r->translation.id = (struct span){buffer_span(&p->client).p, m.id.n};
	r->translation.token = (struct span){r->translation.id.p + m.id.n, m.token.n};
	r->retry = m.retry;
	r->remote = true;
	take_answers(p, m.answers);
	go_on(p);
}

/* Nobody waits for it any more. */
static void give_up(struct parked *p)
{
	struct errand *r = p->errand;
	struct ask *a;

	TAILQ_FOREACH (a, &p->asks, link)
		decline(r, a);
	errand_cancel(r);
	errand_close(r);
}

static void on_patience_over(struct timeout_queue *queue, struct timeout *timeout)
{
	struct parked *p = container_of(timeout, struct parked, patience);
	struct errand *r = p->errand;

	(void)queue;
	LOG(r->worker->log, LOG_LEVEL_INFO, "a client did not answer what it was asked",
	    LOG_STR("upstream", r->call.upstream->config->name));
	give_up(p);
}

void parked_give_up(struct worker *w)
{
	struct errand *r, *next;
	int budget = GIVE_UP_BUDGET;

	LIST_FOREACH_SAFE (r, &w->errands, link, next) {
		if (!r->parked || !r->parked->waiting)
			continue;
		if (budget-- == 0) {
			timeout_arm(&w->timeouts.give_up, &w->give_up);
			return;
		}
		give_up(r->parked);
	}
}

static void on_give_up(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	parked_give_up(container_of(timeout, struct worker, give_up));
}

static void on_mail(
    struct mailbox *box, enum mail_kind kind, struct span payload, struct mapping *memory)
{
	struct parked *p = container_of(box, struct parked, box);

	(void)memory;
	if (kind == MAIL_RESUME)
		on_resume(p, payload);
	else if (kind == MAIL_GONE && p->errand->remote && payload.n == sizeof(p->last) &&
		 memcmp(payload.p, &p->last, sizeof(p->last)) == 0)
		give_up(p);
}

/* --- from the errand --- */

/* A call of what its request was, so that only the same one resumes it. */
static bool remember_request(struct parked *p)
{
	struct exchange *x = p->errand->exchange;
	const struct envelope *e = x ? exchange_message(x) : NULL;

	return e && seal_digest(e, p->digest);
}

static struct parked *parked_create(struct errand *r)
{
	struct worker *w = r->worker;
	struct parked *p;

	if (w->parked_count >= w->config->limits.parked_calls)
		return NULL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->errand = r;
	TAILQ_INIT(&p->asks);
	p->box.opened = on_opened;
	p->box.mail = on_mail;
	if (!remember_request(p) || mailbox_open(w, &p->box)) {
		free(p);
		return NULL;
	}
	w->parked_count++;
	METRIC_SET(w->metrics, CALLS_PARKED, w->parked_count, 0);
	r->parked = p;
	return p;
}

/* Of a question, which is copied: it need not be scanned once more. NULL when it is too long, or
 * memory is short. */
static struct ask *ask_create(const struct envelope *e)
{
	struct ask *a = calloc(1, sizeof(*a));
	size_t bound = ASK_SIZE_MAX + e->method.n;

	if (!a || e->text.n > ASK_SIZE_MAX || BUFFER_ADD(&a->text, bound, e->text, e->method)) {
		free(a);
		return NULL;
	}
	const char *copy = buffer_span(&a->text).p;
	a->id = (struct span){copy + (e->id.p - e->text.p), e->id.n};
	a->method = (struct span){copy + e->text.n, e->method.n};
	if (e->params.p)
		a->params = (struct span){copy + (e->params.p - e->text.p), e->params.n};
	return a;
}

static void ask_add(struct parked *p, struct ask *a)
{
	a->number = ++p->last_ask;
	TAILQ_INSERT_TAIL(&p->asks, a, link);
	p->ask_count++;
}

bool parked_ask(struct errand *r, const struct envelope *e)
{
	unsigned needed = capability_needed(e->method, e->params);

	if (!needed || !(needed & r->capabilities) || !r->translation.method->asks)
		return false;
	/* Scanning the request again takes the place of this scan. */
	struct ask *a = ask_create(e);
	struct parked *p = !a || r->parked ? r->parked : parked_create(r);
	if (!a || !p || p->ask_count == ASKS_MAX) {
		ask_discard(a);
		return false;
	}
	ask_add(p, a);
	if (!p->waiting)
		timeout_arm(&r->worker->timeouts.ask_window, &p->window);
	return true;
}

bool parked_keep(struct errand *r, const struct envelope *e)
{
	struct parked *p = r->parked;

	if (!p || errand_is_heard(r))
		return false;
	if ((e->kind == ENVELOPE_RESULT || e->kind == ENVELOPE_ERROR) &&
	    buffer_length(&p->held) == 0 &&
	    buffer_append(&p->held, e->text.p, e->text.n, ERRAND_MESSAGE_MAX))
		errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
	return true;
}

bool parked_ended(struct errand *r)
{
	struct parked *p = r->parked;

	if (!p || errand_is_heard(r))
		return false;
	p->ended = true;
	return true;
}

void parked_free(struct errand *r)
{
	struct parked *p = r->parked;
	struct worker *w = r->worker;

	if (!p)
		return;
	r->parked = NULL;
	mailbox_close(&p->box);
	timeout_disarm(&w->timeouts.ask_window, &p->window);
	timeout_disarm(&w->timeouts.client_input, &p->patience);
	while (!TAILQ_EMPTY(&p->asks))
		ask_free(p, TAILQ_FIRST(&p->asks));
	buffer_release(&p->held);
	buffer_release(&p->client);
	free(p);
	w->parked_count--;
	METRIC_SET(w->metrics, CALLS_PARKED, w->parked_count, 0);
	worker_check_done(w);
}

void parked_timeouts_init(struct worker *w)
{
	struct worker_timeouts *t = &w->timeouts;

	timeout_queue_init(&t->give_up, w->loop, give_up_pause, on_give_up);
	timeout_queue_init(&t->ask_window, w->loop, ask_window, on_window_over);
	timeout_queue_init(
	    &t->client_input, w->loop, w->config->timeouts.client_input, on_patience_over);
}
