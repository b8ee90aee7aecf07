/* reading: see reading.h. */
#include "worker/mcp/reading.h"

#include <errno.h>
#include <stdio.h>

static int on_event(struct sse_data *events, struct span data)
{
	struct reading *r = container_of(events, struct reading, events);
	struct worker *w = r->worker;
	struct envelope_fault fault;

	if (data.n <= SCANNING_SHORT) {
		int error = envelope_scan(data, w->config->limits.json_depth, &w->envelope, &fault);
		return r->ops->message(r, data, error, &w->envelope);
	}
	buffer_release(&r->text);
	r->text = events->data;
	events->data = (struct buffer){0};
	r->text.tail--; /* the LF after the last line is not part of it */
	int error = reading_scan(r);
	return error ? error : 1;
}

int reading_feed(struct reading *r, const char *p, size_t n)
{
	if (r->busy)
		return buffer_append(&r->behind, p, n, r->bound);
	int status = sse_data_feed(&r->events, p, n, r->bound, on_event);
	if (status <= 0 || !r->busy)
		return status;
	return buffer_append(&r->behind, p + r->events.taken, n - r->events.taken, r->bound);
}

/* What came behind a long message, up to the next. */
static int take_behind(struct reading *r)
{
	struct span rest = buffer_span(&r->behind);
	int status = sse_data_feed(&r->events, rest.p, rest.n, r->bound, on_event);

	if (r->busy)
		buffer_consume(&r->behind, r->events.taken);
	else
		buffer_release(&r->behind);
	return status;
}

static void forget_text(struct reading *r)
{
	scanning_free(r->scanning);
	r->scanning = NULL;
	buffer_release(&r->text);
}

static void on_scanned(void *owner, int error, const struct envelope_fault *fault)
{
	struct reading *r = owner;
	int status = 0;

	(void)fault;
	r->busy = false;
	r->lasting = true;
	bool enough = r->ops->message(r, buffer_span(&r->text), error, &r->worker->envelope);
	r->lasting = false;
	if (!enough) {
		forget_text(r);
		status = take_behind(r);
	}
	if (!r->busy)
		r->ops->caught_up(r, status < 0 ? status : 0);
}

int reading_scan(struct reading *r)
{
	scanning_free(r->scanning);
	r->scanning = scanning_start(r->worker, buffer_span(&r->text), on_scanned, r);
	r->busy = r->scanning != NULL;
	return r->busy ? 0 : -ENOMEM;
}

bool reading_end(struct reading *r, int reason, const char *detail)
{
	r->ended = true;
	r->reason = reason;
	snprintf(r->detail, sizeof(r->detail), "%s", detail);
	return r->busy;
}

void reading_stop(struct reading *r)
{
	if (r->scanning)
		scanning_stop(r->scanning);
}

void reading_reset(struct reading *r)
{
	scanning_free(r->scanning);
	r->scanning = NULL;
	r->busy = r->ended = false;
	buffer_consume(&r->text, buffer_length(&r->text));
	buffer_consume(&r->behind, buffer_length(&r->behind));
	sse_data_release(&r->events);
	r->events = (struct sse_data){.marks = r->events.marks};
}

void reading_release(struct reading *r)
{
	forget_text(r);
	buffer_release(&r->behind);
	sse_data_release(&r->events);
}
