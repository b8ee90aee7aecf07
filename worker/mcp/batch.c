/* batch: see batch.h. */
#include "worker/mcp/batch.h"

#include <errno.h>

#include "worker/mcp/inlet.h"
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

	inlet_take(x->batch, e->text);
	return c->exchange == x ? 0 : -ECANCELED;
}

void batch_start(struct exchange *x, const struct session_record *record)
{
	struct worker *w = x->worker;
	struct conn *c = x->conn;
	struct envelope_fault fault;

	struct sockaddr_storage peer = clients_peer(c->client);
	x->batch = inlet_open(w, x->route->config->path, &peer, &ops, x);
	if (!x->batch) {
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, (struct span){0});
		return;
	}
	inlet_borrow(x->batch, &x->session, (enum mcp_version)record->version);
	if (envelope_batch(buffer_span(&x->body), w->config->limits.json_depth, take, x, &fault))
		return; /* it is over; the batch was scanned before */
	x->batch_taken = true;
	on_progress(x->batch);
}

void batch_leave(struct exchange *x)
{
	inlet_close(x->batch, false);
	x->batch = NULL;
}
