/*
 * caller: clients that call a tool and, when it has answered, call again.
 *
 * A paced client calls when its next call is due, at once if that is past; latency counts from when
 * the call was really made, a new connection included.
 */
#include "common/clock.h"
#include "tests/load/driver/client.h"
#include "tests/load/driver/driver.h"

static const double pause_after_failure = 0.01; /* seconds */

static void caller_begin(struct client *c)
{
	client_tally(c)->requests++;
	client_send(c, &(struct request){.method = "tools/call",
			   .name = "echo",
			   .params = "\"name\":\"echo\",\"arguments\":{}",
			   .id = c->id});
}

static void call_again(struct client *c)
{
	unsigned rate = c->driver->options.rate, calls = c->driver->options.calls;
	uint64_t now = clock_microseconds();

	if (c->driver->ending || (calls > 0 && c->calls >= calls)) {
		client_finish(c);
		return;
	}
	if (rate > 0)
		c->due_at = (c->due_at ? c->due_at : c->sent_at) + 1000000 / rate;
	if (rate > 0 && c->due_at > now) {
		client_again(c, (double)(c->due_at - now) / 1e6);
		return;
	}
	c->due_at = now;
	caller_begin(c);
}

static void caller_answered(struct client *c)
{
	uint64_t took = clock_microseconds() - c->sent_at;
	unsigned late = c->driver->options.late;

	report_answered(&c->driver->report, c->kind, took);
	c->calls++;
	if (late > 0 && took > late * UINT64_C(1000))
		client_fail(c, FAILURE_LATE, "", link_port(&c->link));
	call_again(c);
}

static void caller_failed(struct client *c)
{
	if (c->driver->ending)
		client_finish(c);
	else
		client_again(c, pause_after_failure);
}

static void caller_stop(struct client *c)
{
	if (c->link.state != LINK_BUSY && c->link.state != LINK_CONNECTING)
		client_finish(c);
}

const struct role caller_role = {.letter = 'k',
    .begin = caller_begin,
    .answered = caller_answered,
    .failed = caller_failed,
    .stop = caller_stop};

const struct role connecting_role = {.letter = 'c',
    .begin = caller_begin,
    .answered = caller_answered,
    .failed = caller_failed,
    .stop = caller_stop};
