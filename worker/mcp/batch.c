/* batch: see batch.h. */
#include "worker/mcp/batch.h"

#include <errno.h>

#include "worker/mcp/inlet.h"
#include "worker/mcp/scanning.h"
#include "worker/policy/clients.h"
#include "worker/route.h"

static void on_message(struct inlet *i, struct span message)
{
	struct exchange *x = i->context;
	struct conn *c = x->conn;

	if (!x->answering)
		relay_begin(x, 200, CONN_LENGTH_UNKNOWN, true, (struct span){0});
	if (c->exchange == x)
		relay_event(x, message);
}

static bool is_congested(const struct inlet *i)
{
	return conn_congested(((const struct exchange *)i->context)->conn);
}

static void on_progress(struct inlet *i)
{
	struct exchange *x = i->context;

	if (!x->batch_taken || !inlet_is_idle(i))
		return;
	if (x->answering)
		relay_over(x, UPSTREAM_OK, "");
	else
		exchange_accept(x);
}

static const struct inlet_ops ops = {on_message, is_congested, on_progress};

static int take(void *context, const struct envelope *e)
{
	struct exchange *x = context;
	struct conn *c = x->conn;

	inlet_take_scanned(x->batch, e);
	return c->exchange == x ? 0 : -ECANCELED;
}

static void on_taken(void *owner, int error, const struct envelope_fault *fault)
{
	struct exchange *x = owner;

	(void)fault;
	if (error) /* it is over; the batch was scanned before */
		return;
	x->batch_taken = true;
	on_progress(x->batch);
}

void batch_start(struct exchange *x, const struct session_record *record)
{
	struct worker *w = x->worker;
	struct conn *c = x->conn;

	struct sockaddr_storage peer = clients_peer(c->client);
	x->batch = inlet_open(w, x->route->config->path, &peer, &ops, x);
	if (!x->batch) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	inlet_borrow(x->batch, &x->session, (enum mcp_version)record->version);
	scanning_free(x->scanning);
	x->scanning = scanning_start_batch(w, buffer_span(&x->body), take, on_taken, x);
	if (!x->scanning)
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
}

void batch_leave(struct exchange *x)
{
	inlet_close(x->batch, false);
	x->batch = NULL;
}
