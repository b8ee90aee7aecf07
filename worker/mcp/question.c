/* question: see question.h. */
#include "worker/mcp/question.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/raw.h"
#include "worker/mcp/up.h"

enum { ROUNDS_MAX = 8, ITEMS_MAX = 16, ID_MAX = 64 };

static const struct span id_start = {"\"margay-", 8};

struct item {
	struct span key, method, params; /* raw, in question.text */
	struct buffer answer;            /* a bare result, raw JSON */
};

struct question {
	struct errand *errand;
	struct mailbox box;
	struct buffer text; /* the upstream's result */
	struct span state;  /* requestState in it, or empty */
	struct item items[ITEMS_MAX];
	unsigned count, left, rounds;
	bool known; /* the broker knows the box */
	struct timeout patience, again;
};

/* --- asking --- */

static void put_id(const struct question *q, unsigned number, char out[ID_MAX])
{
	char *end = stpcpy(out, id_start.p);

	mail_box_format(&q->box.id, end);
	sprintf(end + MAIL_BOX_TEXT, "-%u\"", number);
}

static bool is_url(const struct item *item)
{
	struct span mode;

	return raw_member(item->params, "mode", &mode) && span_equal(mode, SPAN("\"url\""));
}

/* One request to the client. */
static void put_request(
    struct compose *c, const struct question *q, unsigned number, enum mcp_version revision)
{
	static const char *const before_modes[] = {"mode", NULL};
	const struct item *item = &q->items[number];
	char id[ID_MAX];

	put_id(q, number, id);
	translate_begin(c, span_of(id));
	compose_member(c, "method", item->method);
	compose_key(c, "params");
	compose_open(c, '{');
	compose_members(c, item->params, revision < MCP_2025_11_25 ? before_modes : NULL);
	/* That revision names such a thing, to say later that it is done. */
	if (is_url(item))
		compose_member(c, "elicitationId", span_of(id));
	compose_close(c, '}');
	compose_close(c, '}');
}

static void ask_all(struct question *q)
{
	struct errand *r = q->errand;

	timeout_arm(&r->worker->timeouts.question_patience, &q->patience);
	/* The errand owns the question, and may be over with any of these. */
	for (unsigned i = 0; !r->closed && errand_is_awaited(r) && i < q->count; i++) {
		struct compose c = errand_compose(r);
		put_request(&c, q, i, r->translation.revision);
		errand_notice(r, &c);
	}
}

static void on_opened(struct mailbox *box, int status)
{
	struct question *q = container_of(box, struct question, box);

	q->known = status == 0;
	if (status)
		errand_fail(q->errand, METRIC_REASON_LIMIT, "the session broker does not answer");
	else
		ask_all(q);
}

/* --- answered --- */

/* The request again, with what the client said. */
static void ask_upstream(struct question *q)
{
	struct errand *r = q->errand;
	struct buffer answers = {0};
	struct compose c = {.out = &answers, .bound = ERRAND_MESSAGE_MAX};
	struct retry_inputs inputs = {.state = q->state};

	timeout_disarm(&r->worker->timeouts.question_patience, &q->patience);
	compose_open(&c, '{');
	for (unsigned i = 0; i < q->count; i++) {
		compose_element(&c, q->items[i].key);
		compose_raw(&c, SPAN(":"));
		compose_raw(&c, buffer_span(&q->items[i].answer));
	}
	compose_close(&c, '}');
	if (q->count > 0)
		inputs.responses = buffer_span(&answers);
	if (c.error || up_send(r, &inputs))
		errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
	buffer_release(&answers);
}

/* Nothing was asked: the upstream only wants to be asked again. */
static void on_again(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	ask_upstream(container_of(timeout, struct question, again));
}

static void on_patience_over(struct timeout_queue *queue, struct timeout *timeout)
{
	struct question *q = container_of(timeout, struct question, patience);

	(void)queue;
	errand_fail(q->errand, METRIC_REASON_TIMEOUT,
	    "the client did not answer what it was asked within timeouts.client_input");
}

/* A refusal of what can't be refused in the stateless era ends the request (mcp-wire 3.3). */
static void give_error(struct question *q, struct span error)
{
	struct errand *r = q->errand;
	struct compose c = errand_compose(r);

	translate_begin(&c, r->translation.id);
	compose_member(&c, "error", error);
	compose_close(&c, '}');
	errand_answer(r, &c, 200);
	if (r->answered && !r->closed)
		errand_deliver(r);
}

static void take_answer(struct question *q, struct item *item, const struct envelope *e)
{
	static const struct span cancelled = {"{\"action\":\"cancel\"}", 19};
	struct span value = e->result;

	if (buffer_length(&item->answer) > 0) /* it came already */
		return;
	if (e->kind == ENVELOPE_ERROR) {
		if (!span_equal(item->method, SPAN("\"elicitation/create\""))) {
			give_error(q, e->error);
			return;
		}
		value = cancelled;
	}
	if (buffer_append(&item->answer, value.p, value.n, ERRAND_MESSAGE_MAX)) {
		errand_fail(q->errand, METRIC_REASON_LIMIT, "out of memory");
		return;
	}
	if (--q->left == 0)
		ask_upstream(q);
}

/* The number behind the last dash of an id of ours. */
static bool number_of(struct span id, unsigned *out)
{
	unsigned long value = 0;
	size_t at = id_start.n + MAIL_BOX_TEXT;

	if (id.n < at + 3 || id.n > at + 5 || id.p[at] != '-')
		return false;
	for (at++; at < id.n - 1; at++) {
		if (id.p[at] < '0' || id.p[at] > '9')
			return false;
		value = value * 10 + (unsigned long)(id.p[at] - '0');
	}
	*out = (unsigned)value;
	return true;
}

static void on_mail(
    struct mailbox *box, enum mail_kind kind, struct span payload, struct mapping *memory)
{
	struct question *q = container_of(box, struct question, box);
	struct errand *r = q->errand;
	struct envelope *e = &r->worker->envelope;
	struct envelope_fault fault;
	size_t n = sizeof(r->client.bytes);
	unsigned number;

	(void)memory;
	/* Only the session that was asked may answer. */
	if (kind != MAIL_RESPONSE || payload.n <= n || memcmp(payload.p, r->client.bytes, n) != 0)
		return;
	struct span message = {payload.p + n, payload.n - n};
	if (!envelope_scan(message, r->worker->config->limits.json_depth, e, &fault) && e->id.p &&
	    number_of(e->id, &number) && number < q->count)
		take_answer(q, &q->items[number], e);
}

void question_answered(struct exchange *x, const struct envelope *e)
{
	struct mail_box_id box;
	struct buffer mail = {0};

	if (!e->id.p || e->id.n < id_start.n + MAIL_BOX_TEXT ||
	    memcmp(e->id.p, id_start.p, id_start.n) != 0 ||
	    !mail_box_parse((struct span){e->id.p + id_start.n, MAIL_BOX_TEXT}, &box))
		return;
	if (buffer_append(&mail, x->session.bytes, sizeof(x->session.bytes), MAIL_MAX) ||
	    buffer_append(&mail, e->text.p, e->text.n, MAIL_MAX) ||
	    sessions_mail_long(x->worker->sessions, &box, MAIL_RESPONSE, &mail, NULL))
		LOG_TEXT(x->worker->log, LOG_LEVEL_WARN, "what a client answered is lost");
	buffer_release(&mail);
}

/* --- from the errand --- */

static void forget_items(struct question *q)
{
	for (unsigned i = 0; i < q->count; i++)
		buffer_release(&q->items[i].answer);
	q->count = q->left = 0;
}

/* False when what the upstream wants can't be understood. */
static bool take_items(struct question *q)
{
	struct span result = buffer_span(&q->text), list = {0}, key, value;

	if (!raw_member(result, "requestState", &q->state))
		q->state = (struct span){0};
	if (!raw_object(result, "inputRequests", &list))
		return q->state.n > 0;
	while (raw_next_member(&list, &key, &value)) {
		struct item *item = &q->items[q->count];
		if (q->count == ITEMS_MAX || !raw_member(value, "method", &item->method))
			return false;
		item->key = (struct span){key.p - 1, key.n + 2};
		if (!raw_object(value, "params", &item->params))
			item->params = SPAN("{}");
		item->answer = (struct buffer){0};
		q->count++;
	}
	q->left = q->count;
	return true;
}

void question_ask(struct errand *r, const struct envelope *e)
{
	struct question *q = r->questions;
	struct worker *w = r->worker;

	if (!errand_is_awaited(r)) {
		errand_close(r);
		return;
	}
	if (!q) {
		q = calloc(1, sizeof(*q));
		if (!q) {
			errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
			return;
		}
		q->errand = r;
		q->box.opened = on_opened;
		q->box.mail = on_mail;
		r->questions = q;
	}
	forget_items(q);
	buffer_consume(&q->text, buffer_length(&q->text));
	if (++q->rounds > ROUNDS_MAX)
		errand_fail(r, METRIC_REASON_PROTOCOL, "it asks the client again and again");
	else if (buffer_append(&q->text, e->result.p, e->result.n, ERRAND_MESSAGE_MAX))
		errand_fail(r, METRIC_REASON_LIMIT, "out of memory");
	else if (!take_items(q))
		errand_fail(
		    r, METRIC_REASON_PROTOCOL, "it asks the client for nothing, or too much");
	else if (q->count == 0)
		timeout_arm(&w->timeouts.question_again, &q->again);
	else if (q->known)
		ask_all(q);
	else if (mailbox_open(w, &q->box))
		errand_fail(r, METRIC_REASON_LIMIT, "the session broker does not answer");
}

bool question_ended(struct errand *r)
{
	return r->questions && (r->questions->left > 0 || timeout_armed(&r->questions->again));
}

void question_free(struct errand *r)
{
	struct question *q = r->questions;

	if (!q)
		return;
	r->questions = NULL;
	mailbox_close(&q->box);
	timeout_disarm(&r->worker->timeouts.question_patience, &q->patience);
	timeout_disarm(&r->worker->timeouts.question_again, &q->again);
	forget_items(q);
	buffer_release(&q->text);
	free(q);
}

void question_timeouts_init(struct worker *w)
{
	struct worker_timeouts *t = &w->timeouts;

	timeout_queue_init(
	    &t->question_patience, w->loop, w->config->timeouts.client_input, on_patience_over);
	timeout_queue_init(&t->question_again, w->loop, 0.1, on_again);
}
