/* inlet_take: what the client of an inlet says, made into calls; see inlet.h. A message that is too
 * long to be scanned in one turn waits in `unread`, and those that come after it behind it. */
#include <errno.h>

#include "common/compose.h"
#include "common/plain.h"
#include "common/raw.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/inlet_call.h"
#include "worker/mcp/translate/translate.h"

static void read_next(struct inlet *i);

/* It does not want the answer any more: in the stateless era that is said by going. True when it is
 * about a request of that era; in the other it is said, and then nobody waits. */
static bool cancel(struct inlet *i, struct span id)
{
	struct inlet_call *c;

	TAILQ_FOREACH (c, &i->calls, link) {
		if (!span_equal(c->id, id))
			continue;
		c->cancelled = true;
		if (!c->modern)
			return false;
		inlet_call_close(c);
		return true;
	}
	return false;
}

static void take_fault(struct inlet *i, struct span id, const struct envelope_fault *fault)
{
	struct buffer text = {0};
	struct compose out = {.out = &text, .bound = id.n + 512};

	translate_error(&out, id.n > 0 ? id : SPAN("null"), fault->code, span_of(fault->reason),
	    (struct span){0});
	if (!out.error)
		i->ops->message(i, buffer_span(&text));
	buffer_release(&text);
}

static void refuse_more(struct inlet *i, struct span id)
{
	static const struct envelope_fault fault = {.code = -32000, .reason = "too much at once"};

	take_fault(i, id, &fault);
}

static void out_of_memory(struct inlet *i, struct span id)
{
	static const struct envelope_fault fault = {.code = -32603, .reason = "out of memory"};

	take_fault(i, id, &fault);
}

/* Send a message, or batch (error is -E2BIG), which the envelope is of: its spans point into
 * `scanned`. */
static void take_call(
    struct inlet_call *c, struct span scanned, int error, const struct envelope *e)
{
	struct inlet *i = c->inlet;
	bool request = !error && e->kind == ENVELOPE_REQUEST;

	if (!error && e->cancelled_id.p && cancel(i, e->cancelled_id)) {
		inlet_call_close(c);
		return;
	}
	c->modern = !error && e->meta_version.p;
	c->initialized = !error && e->kind == ENVELOPE_NOTIFICATION &&
			 span_equal(e->method, SPAN("notifications/initialized"));
	c->listens = request && c->modern && span_equal(e->method, SPAN("subscriptions/listen"));
	i->listens += c->listens;
	if (request)
		c->id = (struct span){c->text.p + (e->id.p - scanned.p), e->id.n};
	if (request && !c->modern && span_equal(e->method, SPAN("initialize"))) {
		c->purpose = PURPOSE_INITIALIZE;
		inlet_leave_session(i);
		buffer_consume(&i->initialize, buffer_length(&i->initialize));
		if (buffer_append(&i->initialize, c->text.p, c->text.n, c->text.n))
			buffer_release(&i->initialize);
	}
	inlet_call_move(c, &i->waiting);
	inlet_pump(i);
}

static void on_scanned(void *owner, int error, const struct envelope_fault *fault)
{
	struct inlet_call *c = owner;
	struct inlet *i = c->inlet;
	const struct envelope *e = &i->worker->envelope;

	if (error && error != -E2BIG) {
		take_fault(i, e->id, fault);
		inlet_call_close(c);
	} else {
		take_call(c, c->text, error, e);
	}
	if (!i->closed)
		read_next(i);
	if (!i->closed)
		i->ops->progress(i);
}

/* Scan the first that waits for it. */
static void read_next(struct inlet *i)
{
	struct inlet_call *c;

	while (!i->closed && (c = TAILQ_FIRST(&i->unread))) {
		c->scanning = scanning_start(i->worker, c->text, on_scanned, c);
		if (c->scanning)
			return;
		inlet_call_close(c);
		out_of_memory(i, (struct span){0});
	}
}

static void take_later(struct inlet *i, struct span message, struct mapping *memory)
{
	bool first = TAILQ_EMPTY(&i->unread), lasts = memory && memory->text.p;
	struct inlet_call *c = inlet_call_create(i, PURPOSE_MESSAGE, message, !lasts);

	if (!c) {
		out_of_memory(i, (struct span){0});
		return;
	}
	if (lasts)
		c->memory = mapping_take(memory);
	inlet_call_move(c, &i->unread);
	if (first)
		read_next(i);
}

static void take_now(
    struct inlet *i, struct span message, int error, const struct envelope *e, bool copy)
{
	struct span id = !error && e->kind == ENVELOPE_REQUEST ? e->id : (struct span){0};
	struct inlet_call *c = NULL;

	if (!inlet_has_room(i))
		refuse_more(i, id);
	else if ((c = inlet_call_create(i, PURPOSE_MESSAGE, message, copy)))
		take_call(c, message, error, e);
	else if (id.n > 0)
		out_of_memory(i, id);
}

/* Of what was not scanned: one that may be echoed, or empty. */
static struct span id_of(struct span message)
{
	struct span id;

	if (!raw_member(message, "id", &id))
		return (struct span){0};
	bool text = id.n >= 2 && id.p[0] == '"' && id.p[id.n - 1] == '"' &&
		    plain_length(id.p + 1, id.n - 2, PLAIN_STRING) == id.n - 2;
	return text || raw_is_integer(id) ? id : (struct span){0};
}

void inlet_take(struct inlet *i, struct span message, struct mapping *memory)
{
	struct worker *w = i->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	if (message.n > SCANNING_SHORT && !inlet_has_room(i)) {
		refuse_more(i, id_of(message));
		return;
	}
	if ((message.n > SCANNING_SHORT || !TAILQ_EMPTY(&i->unread)) && inlet_has_room(i)) {
		take_later(i, message, memory);
		return;
	}
	int error = envelope_scan(message, w->config->limits.json_depth, e, &fault);
	if (error && error != -E2BIG)
		take_fault(i, e->id, &fault);
	else
		take_now(i, message, error, e, true);
}

void inlet_take_scanned(struct inlet *i, const struct envelope *e)
{
	take_now(i, e->text, 0, e, false);
}
