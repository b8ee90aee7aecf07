/* scanning: see scanning.h. */
#include "common/scanning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/turn.h"

struct scanning {
	struct scanning_place place;
	struct envelope_steps *steps;
	int (*each)(void *owner, const struct envelope *message); /* NULL: no batch */
	scanning_done *done;
	void *owner;
	ev_timer turn; /* due in the next one */
};

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct scanning *s = container_of(timer, struct scanning, turn);
	struct envelope_fault fault = {0};

	turn_enter("scan");
	(void)events;
	int error = s->each
			? envelope_batch_step(s->steps, SCANNING_STEP, s->each, s->owner, &fault)
			: envelope_step(s->steps, SCANNING_STEP, s->place.envelope, &fault);
	if (error != -EAGAIN) {
		s->done(s->owner, error, &fault);
		return;
	}
	ev_timer_set(timer, 0, 0);
	ev_timer_start(loop, timer);
}

struct scanning *scanning_begin(struct scanning_place place, struct span text,
    int (*each)(void *owner, const struct envelope *message), scanning_done *done, void *owner)
{
	struct scanning *s = calloc(1, sizeof(*s));

	if (s)
		s->steps = envelope_steps_begin(text, place.depth);
	if (!s || !s->steps) {
		free(s);
		return NULL;
	}
	s->place = place;
	s->each = each;
	s->done = done;
	s->owner = owner;
	ev_timer_init(&s->turn, on_turn, 0, 0);
	ev_timer_start(place.loop, &s->turn);
	return s;
}

const struct envelope *scanning_found(const struct scanning *s)
{
	envelope_steps_found(s->steps, s->place.envelope);
	return s->place.envelope;
}

void scanning_stop(struct scanning *s)
{
	ev_timer_stop(s->place.loop, &s->turn);
}

void scanning_free(struct scanning *s)
{
	if (!s)
		return;
	scanning_stop(s);
	envelope_steps_free(s->steps);
	free(s);
}

void scanning_cut(const char *batch, const char *taken)
{
	char *start = (char *)(uintptr_t)batch, *at = (char *)(uintptr_t)taken;

	/* Between the turns there is one more message to come: its comma was seen. */
	while (*at != ',')
		at++;
	memset(start, ' ', (size_t)(at - start));
	*at = '[';
}
