/* driver: see driver.h. */
#include "tests/load/driver/driver.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "tests/load/driver/client.h"

static const double window_length = 0.1; /* seconds */

static void finish(struct driver *d)
{
	if (d->ending)
		return;
	d->ending = true;
	for (unsigned i = 0; i < d->count; i++)
		client_stop(&d->clients[i]);
	if (d->working == 0)
		ev_break(d->loop, EVBREAK_ALL);
}

static void on_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	finish(container_of(watcher, struct driver, end));
}

static void on_window(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)events;
	report_window(&container_of(watcher, struct driver, window)->report);
	ev_timer_again(loop, watcher); /* after a stall the next one is a whole one, too */
}

static void on_terminate(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)events;
	finish(container_of(watcher, struct driver, terminate));
}

static void on_interrupt(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)events;
	finish(container_of(watcher, struct driver, interrupt));
}

static void on_tell(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)events;
	report_print(&container_of(watcher, struct driver, tell)->report, stdout, false);
}

/* All are open, or gave up. */
static void begin(struct driver *d)
{
	d->begun = true;
	report_start(&d->report);
	if (d->options.seconds > 0) {
		ev_timer_set(&d->end, d->options.seconds, 0);
		ev_timer_start(d->loop, &d->end);
	}
	ev_timer_start(d->loop, &d->window);
	for (unsigned i = 0; i < d->count; i++)
		client_begin(&d->clients[i]);
	report_print(&d->report, stdout, false);
}

void driver_opened(struct driver *d, struct client *c)
{
	*(c->gave_up ? &d->report.unopened : &d->report.opened) += 1;
	if (--d->opening == 0 && !d->ending)
		begin(d);
}

void driver_finished(struct driver *d)
{
	if (--d->working == 0)
		ev_break(d->loop, EVBREAK_ALL);
}

static void make_clients(struct driver *d)
{
	const struct {
		unsigned count;
		enum kind legacy;
	} groups[] = {{d->options.keepalive, KIND_KEEPALIVE_LEGACY},
	    {d->options.connects, KIND_CONNECTS_LEGACY}, {d->options.streams, KIND_STREAMS_LEGACY}};

	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
		for (unsigned n = 0; n < groups[g].count; n++) {
			bool modern = d->options.legacy ? d->options.modern && n % 2 == 1 : true;
			client_init(&d->clients[d->count++], d, groups[g].legacy + modern, n);
		}
	}
}

static void on_late(struct timeout_queue *q, struct timeout *t)
{
	struct client *c = container_of(t, struct client, deadline);
	unsigned port = link_port(&c->link);

	(void)q;
	link_close(&c->link);
	c->link.ops->lost(&c->link, FAILURE_TIMEOUT, "no whole answer in time", port);
}

static void on_silence(struct timeout_queue *q, struct timeout *t)
{
	struct client *c = container_of(t, struct client, silence);
	unsigned port = link_port(&c->link);

	(void)q;
	link_close(&c->link);
	c->link.ops->lost(&c->link, FAILURE_SILENT, "no event", port);
}

static void watch_signal(struct driver *d, ev_signal *watcher, int number,
    void (*callback)(struct ev_loop *, ev_signal *, int))
{
	ev_signal_init(watcher, callback, number);
	ev_signal_start(d->loop, watcher);
}

int driver_run(struct driver *d)
{
	unsigned count = d->options.keepalive + d->options.connects + d->options.streams;

	d->loop = ev_default_loop(EVFLAG_AUTO);
	d->clients = calloc(count, sizeof(*d->clients));
	int error = d->loop && d->clients ? 0 : -ENOMEM;
	if (!error)
		error = report_open(&d->report, d->options.rows, d->options.windows);
	if (error)
		return error;
	timeout_queue_init(&d->deadlines, d->loop, d->options.timeout / 1000.0, on_late);
	timeout_queue_init(&d->silences, d->loop, d->options.silence / 1000.0, on_silence);
	ev_timer_init(&d->end, on_end, 0, 0);
	ev_timer_init(&d->window, on_window, window_length, window_length);
	watch_signal(d, &d->terminate, SIGTERM, on_terminate);
	watch_signal(d, &d->interrupt, SIGINT, on_interrupt);
	watch_signal(d, &d->tell, SIGUSR1, on_tell);
	d->opening_until = clock_coarse() + d->options.connect_timeout / 1000.0;
	make_clients(d);
	d->opening = d->working = d->count;
	for (unsigned i = 0; i < d->count; i++)
		client_open(&d->clients[i]);
	ev_run(d->loop, 0);
	report_window(&d->report);
	return 0;
}

void driver_release(struct driver *d)
{
	for (unsigned i = 0; i < d->count; i++)
		client_release(&d->clients[i]);
	free(d->clients);
	report_close(&d->report);
	if (d->loop)
		ev_loop_destroy(d->loop);
}
