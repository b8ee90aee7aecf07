/*
 * driver: a run: its clients, its clock, its end.
 *
 * All clients open their sessions first; the run begins when each has done so or given up. At the
 * end calls that are out are waited for, streams are cut.
 */
#ifndef MARGAY_TESTS_LOAD_DRIVER_DRIVER_H
#define MARGAY_TESTS_LOAD_DRIVER_DRIVER_H

#include <ev.h>
#include <stdbool.h>

#include "common/attributes.h"
#include "common/timeout.h"
#include "tests/load/driver/options.h"
#include "tests/load/driver/report.h"

struct client;

struct driver {
	struct ev_loop *loop;
	struct options options;
	struct report report;
	struct client *clients;
	unsigned count, opening, working;
	bool begun, ending;
	double opening_until; /* clock_coarse() */
	struct timeout_queue deadlines, silences;
	ev_timer end, window;
	ev_signal terminate, interrupt, tell;
};

/* Run to the end. 0, or -errno when it could not begin. */
int driver_run(struct driver *d) MUST_CHECK;
void driver_release(struct driver *d);

/* For clients: each says once that it is open, or gave up, and once that it is finished. */
void driver_opened(struct driver *d, struct client *c);
void driver_finished(struct driver *d);

#endif
