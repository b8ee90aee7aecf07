/* desktop: see desktop.h. */
#include "worker/mcp/desktop.h"

#include <errno.h>
#include <stdlib.h>

#include "common/turn.h"
#include "worker/console.h"
#include "worker/mcp/inlet.h"
#include "worker/route.h"
#include "worker/worker.h"

struct desktop {
	struct worker *worker;
	struct inlet *inlet;
	void (*done)(struct worker *w);
	struct console console;
	ev_timer patience;
	bool over; /* `done` was called */
};

static struct desktop *desktop_of(struct console *c)
{
	return container_of(c, struct desktop, console);
}

static void finish(struct desktop *d)
{
	if (d->over)
		return;
	d->over = true;
	console_read(&d->console, false);
	ev_timer_stop(d->worker->loop, &d->patience);
	inlet_close(d->inlet, true);
	d->done(d->worker);
}

static void update(struct desktop *d)
{
	struct console *c = &d->console;

	if (!d->over && c->ended && inlet_is_idle(d->inlet) && console_is_quiet(c))
		finish(d);
	else if (!d->over)
		console_read(c, !c->congested && inlet_has_room(d->inlet));
}

/* --- the inlet's --- */

static void say(struct desktop *d, struct span message)
{
	int error = d->over ? 0 : console_say(&d->console, message);

	if (error)
		LOG(d->worker->log, LOG_LEVEL_ERROR, "a message to the client is lost",
		    LOG_UINT("bytes", message.n), LOG_ERRNO(-error));
}

static void on_message(struct inlet *i, struct span message)
{
	say(i->context, message);
}

static bool is_congested(const struct inlet *i)
{
	return ((const struct desktop *)i->context)->console.congested;
}

static void on_progress(struct inlet *i)
{
	update(i->context);
}

static const struct inlet_ops inlet_ops = {on_message, is_congested, on_progress};

/* --- the console's --- */

static void on_line(struct console *c, struct span line)
{
	struct desktop *d = desktop_of(c);

	if (!d->over)
		inlet_take(d->inlet, line, NULL);
	update(d);
}

static void on_too_long(struct console *c)
{
	say(desktop_of(c),
	    SPAN("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"The "
		 "message is longer than limits.body_size\"}}"));
}

static void on_patience(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("console");
	(void)loop;
	(void)events;
	finish(container_of(timer, struct desktop, patience));
}

/* What is asked already is answered, within the time that every end has. */
static void on_ended(struct console *c)
{
	struct desktop *d = desktop_of(c);

	ev_timer_set(&d->patience, d->worker->config->timeouts.shutdown, 0);
	ev_timer_start(d->worker->loop, &d->patience);
	update(d);
}

static void on_drained(struct console *c)
{
	struct desktop *d = desktop_of(c);

	if (!d->over)
		inlet_resume(d->inlet);
	update(d);
}

static void on_lost(struct console *c)
{
	finish(desktop_of(c));
}

static const struct console_ops console_ops = {on_line, on_too_long, on_ended, on_drained, on_lost};

/* --- life --- */

int desktop_open(struct worker *w, void (*done)(struct worker *w), struct desktop **out)
{
	struct desktop *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->worker = w;
	d->done = done;
	ev_timer_init(&d->patience, on_patience, 0, 0);
	d->inlet = inlet_open(w, w->routes[0].config->path, NULL, &inlet_ops, d);
	int error =
	    d->inlet ? console_open(&d->console, w->loop, w->config->limits.body_size, &console_ops)
		     : -ENOMEM;
	if (error) {
		if (d->inlet)
			inlet_close(d->inlet, false);
		free(d);
		return error;
	}
	*out = d;
	return 0;
}

void desktop_drain(struct desktop *d)
{
	finish(d);
}

void desktop_close(struct desktop *d)
{
	if (!d->over)
		inlet_close(d->inlet, true);
	console_close(&d->console);
	buffer_release(&d->console.lines.part);
	free(d);
}
