/* turn: a long turn is told with the callback that took it, whichever came last. */
#include "common/turn.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/attributes.h"
#include "common/clock.h"
#include "common/timeout.h"

struct stage {
	struct ev_loop *loop;
	struct turn turn;
	struct metrics *metrics;
	struct metrics_slot *slot;
	struct log *log;
	ev_prepare prepare;
	ev_io before, slow, after;
	unsigned slow_takes, after_takes; /* milliseconds */
	int pipe[2];
};

/* Busy, not asleep: what is measured may be either. */
static void spend(unsigned milliseconds)
{
	uint64_t until = clock_nanoseconds() + milliseconds * UINT64_C(1000000);

	while (clock_nanoseconds() < until) {
	}
}

static void on_before(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)io;
	(void)events;
	turn_enter("before");
}

static void on_slow(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)events;
	turn_enter("slow");
	spend(container_of(io, struct stage, slow)->slow_takes);
}

static void on_after(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)events;
	turn_enter("after");
	spend(container_of(io, struct stage, after)->after_takes);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	struct stage *s = container_of(prepare, struct stage, prepare);

	(void)loop;
	(void)events;
	turn_end(&s->turn, s->slot, s->log);
}

static void watch(
    struct stage *s, ev_io *io, void (*callback)(struct ev_loop *, ev_io *, int), int priority)
{
	ev_init(io, callback);
	ev_io_set(io, s->pipe[1], EV_WRITE);
	ev_set_priority(io, priority);
	ev_io_start(s->loop, io);
}

/* What is logged of one turn in which two callbacks take so many milliseconds. */
static const char *one_turn(unsigned slow_takes, unsigned after_takes)
{
	static char text[1024], path[64];
	static struct stage s;
	FILE *file;

	s.slow_takes = slow_takes;
	s.after_takes = after_takes;
	snprintf(path, sizeof(path), "/tmp/margay-turn-test-%d", getpid());
	struct log_options options = {.level = LOG_LEVEL_WARN, .file = path};
	cr_assert_eq(log_open(&options, "test", &s.log), 0);
	cr_assert_eq(metrics_create(&s.metrics), 0);
	s.slot = metrics_slot_open(s.metrics, 1, getpid());
	cr_assert_eq(pipe(s.pipe), 0);
	s.loop = ev_loop_new(EVFLAG_AUTO);
	turn_watch(&s.turn, s.loop);
	ev_prepare_init(&s.prepare, on_prepare);
	ev_prepare_start(s.loop, &s.prepare);
	watch(&s, &s.before, on_before, EV_MAXPRI);
	watch(&s, &s.slow, on_slow, 0);
	watch(&s, &s.after, on_after, EV_MINPRI);
	ev_run(s.loop, EVRUN_ONCE);
	/* A turn ends where the next begins to poll. */
	turn_end(&s.turn, s.slot, s.log);
	log_close(s.log);
	ev_loop_destroy(s.loop);
	close(s.pipe[0]);
	close(s.pipe[1]);
	metrics_close(s.metrics);
	file = fopen(path, "r");
	cr_assert_not_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	unlink(path);
	return text;
}

/* A machine that stands still in the middle of a turn adds to whichever callback it was: once more.
 */
static bool is_told_of(const char *callback, unsigned slow_takes, unsigned after_takes)
{
	const char *text = "";

	for (int tries = 5; tries > 0 && !strstr(text, callback); tries--) {
		text = one_turn(slow_takes, after_takes);
		cr_assert_not_null(strstr(text, "one turn of the loop took long"), "%s", text);
	}
	return strstr(text, callback);
}

Test(turn, a_long_turn_names_the_callback_that_took_most_of_it)
{
	cr_assert(is_told_of("callback=\"slow\"", 80, 20));
}

Test(turn, the_last_callback_counts_to_the_end_of_its_turn)
{
	cr_assert(is_told_of("callback=\"after\"", 20, 80));
}

Test(turn, a_name_outside_of_a_turn_is_nothing)
{
	turn_enter("outside");
}
