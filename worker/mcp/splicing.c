/* splicing: see splicing.h. */
#include "worker/mcp/splicing.h"

#include <stdlib.h>

#include "common/turn.h"
#include "worker/worker.h"

struct splicing {
	struct worker *worker;
	struct buffer *text; /* as it was composed, until it is whole */
	struct buffer whole; /* with room for all */
	struct compose_cuts cuts;
	unsigned next; /* cut */
	size_t from;   /* how much of the text is in `whole`, */
	size_t within; /* and of that cut */
	splicing_done *done;
	void *owner;
	ev_timer turn; /* due in the next one */
};

/* What comes next, as far as it is in one piece; empty at the end. */
static struct span piece_of(const struct splicing *s)
{
	struct span text = buffer_span(s->text);
	size_t to = s->next < s->cuts.count ? s->cuts.rows[s->next].at : text.n;

	if (s->from < to)
		return (struct span){text.p + s->from, to - s->from};
	if (s->next == s->cuts.count)
		return (struct span){0};
	struct span value = s->cuts.rows[s->next].value;
	return (struct span){value.p + s->within, value.n - s->within};
}

/* So much of the piece was taken. */
static void go_on(struct splicing *s, size_t n)
{
	const struct compose_cuts *cuts = &s->cuts;

	if (s->next == cuts->count || s->from < cuts->rows[s->next].at) {
		s->from += n;
		return;
	}
	s->within += n;
	if (s->within == cuts->rows[s->next].value.n) {
		s->next++;
		s->within = 0;
	}
}

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct splicing *s = container_of(timer, struct splicing, turn);
	struct span piece = {0};

	turn_enter("splice");
	(void)events;
	for (size_t left = SPLICING_STEP; left > 0 && (piece = piece_of(s)).n > 0;
	     left -= piece.n) {
		piece.n = piece.n < left ? piece.n : left;
		memcpy(s->whole.data + s->whole.tail, piece.p, piece.n);
		s->whole.tail += (uint32_t)piece.n;
		go_on(s, piece.n);
	}
	if (piece_of(s).n > 0) {
		ev_timer_set(timer, 0, 0);
		ev_timer_start(loop, timer);
		return;
	}
	buffer_release(s->text);
	*s->text = s->whole;
	s->whole = (struct buffer){0};
	s->done(s->owner);
}

struct splicing *splicing_start(struct worker *w, struct buffer *text,
    const struct compose_cuts *cuts, splicing_done *done, void *owner)
{
	struct splicing *s = calloc(1, sizeof(*s));
	size_t n = buffer_length(text) + cuts->bytes;

	if (!s || buffer_reserve(&s->whole, n, n)) {
		free(s);
		return NULL;
	}
	s->worker = w;
	s->text = text;
	s->cuts = *cuts;
	s->done = done;
	s->owner = owner;
	ev_timer_init(&s->turn, on_turn, 0, 0);
	ev_timer_start(w->loop, &s->turn);
	return s;
}

void splicing_stop(struct splicing *s)
{
	if (s)
		ev_timer_stop(s->worker->loop, &s->turn);
}

void splicing_free(struct splicing *s)
{
	if (!s)
		return;
	splicing_stop(s);
	buffer_release(&s->whole);
	free(s);
}
