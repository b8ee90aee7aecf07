/* fanout: see fanout.h. */
#include "worker/mcp/fanout.h"

#include "worker/upstream/upstream.h"

/* In a turn. Who gets much costs more than who gets little. */
enum { HEARERS_A_TURN = 64, BYTES_A_TURN = 1024 * 1024 };

static const double more_after = 0.001; /* seconds */

static struct timeout_queue *queue_of(const struct fanout *f)
{
	return &f->call->upstream->worker->timeouts.fanout_more;
}

void fanout_init(struct fanout *f, struct upstream_call *call, fanout_give *give)
{
	*f = (struct fanout){.call = call, .give = give};
	TAILQ_INIT(&f->hearers);
}

void fanout_close(struct fanout *f)
{
	f->closed = true;
	timeout_disarm(queue_of(f), &f->more);
}

void fanout_free(struct fanout *f)
{
	buffer_release(&f->news);
	buffer_release(&f->fresh);
}

static void begin_round(struct fanout *f)
{
	/* Those who were still to have the last ones may have left. */
	buffer_release(&f->news);
	f->news = f->fresh;
	f->fresh = (struct buffer){0};
	f->next = TAILQ_FIRST(&f->hearers);
}

void fanout_deliver(struct fanout *f)
{
	struct hearer *h;

	if (!f->next && buffer_length(&f->fresh) > 0)
		begin_round(f);
	size_t each = buffer_length(&f->news), given = 0;
	for (int budget = HEARERS_A_TURN; budget > 0 && given < BYTES_A_TURN && (h = f->next);
	     budget--, given += each) {
		f->next = TAILQ_NEXT(h, link);
		f->give(h, buffer_span(&f->news));
	}
	if (f->closed)
		return;
	if (!f->next)
		buffer_release(&f->news);
	if (f->next || buffer_length(&f->fresh) > 0) {
		upstream_call_pause(f->call);
		timeout_arm(queue_of(f), &f->more);
	} else {
		upstream_call_resume(f->call);
	}
}

static void on_more(struct timeout_queue *queue, struct timeout *timeout)
{
	(void)queue;
	fanout_deliver(container_of(timeout, struct fanout, more));
}

/* Before those who are still to have something. */
void fanout_join(struct fanout *f, struct hearer *h)
{
	h->fanout = f;
	TAILQ_INSERT_HEAD(&f->hearers, h, link);
}

void fanout_leave(struct hearer *h)
{
	struct fanout *f = h->fanout;

	h->fanout = NULL;
	if (f->next == h)
		f->next = TAILQ_NEXT(h, link);
	TAILQ_REMOVE(&f->hearers, h, link);
	/* Nobody is left for whom it came. The news may still be read by whoever leaves. */
	if (TAILQ_EMPTY(&f->hearers))
		buffer_release(&f->fresh);
}

void fanout_timeouts_init(struct worker *w)
{
	timeout_queue_init(&w->timeouts.fanout_more, w->loop, more_after, on_more);
}
