/*
 * no_linger: Margay as it must not be, to prove that the storm would see it.
 *
 * A worker that drains closes idle connections at once, and others after the answer that is under
 * way, without `Connection: close`: whatever is on its way on them is lost. Takes the place of
 * conn_begin and conn_drain at link time.
 */
#include "worker/http/conn.h"
#include "worker/worker.h"

/* Of the same type as what they stand for. */
__typeof__(conn_begin) __real_conn_begin, __wrap_conn_begin;
__typeof__(conn_drain) __wrap_conn_drain;

void __wrap_conn_begin(
    struct conn *c, unsigned status, int64_t length, struct span headers, struct span more)
{
	bool draining = c->worker->draining;

	c->worker->draining = false;
	__real_conn_begin(c, status, length, headers, more);
	c->worker->draining = draining;
	c->close_after |= draining;
}

void __wrap_conn_drain(struct conn *c)
{
	if (c->state == CONN_HEAD && !c->head_sent && !c->request_open)
		conn_close(c);
}
