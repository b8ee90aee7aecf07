/* handshake: see handshake.h. */
#include "worker/http/handshake.h"

#include "worker/http/conn.h"
#include "worker/http/tls.h"
#include "worker/policy/clients.h"
#include "worker/worker.h"

void handshake_begin(struct conn *c, struct tls_server *server)
{
	c->tls = tls_open(server, c->io.fd);
	if (!c->tls) {
		conn_close(c);
		return;
	}
	c->securing = true;
	conn_await(c);
}

bool handshake_turn(struct conn *c)
{
	struct worker *w = c->worker;

	if (w->handshakes == 0)
		return false;
	w->handshakes--;
	return true;
}

bool handshake_step(struct conn *c)
{
	enum tls_stage stage = tls_stage(c->tls);

	if (stage == TLS_UNUSED) {
		conn_close(c);
	} else if (stage == TLS_OPEN) {
		c->securing = false;
		METRIC_ADD(c->worker->metrics, TLS_HANDSHAKES, 1, 0);
		conn_await(c);
	} else if (stage != TLS_HANDSHAKE) {
		handshake_failed(c);
	}
	return stage == TLS_OPEN;
}

void handshake_failed(struct conn *c)
{
	struct worker *w = c->worker;
	enum tls_stage stage = tls_stage(c->tls);

	METRIC_ADD(w->metrics, TLS_HANDSHAKE_FAILURES, 1, 0);
	LOG(w->log, LOG_LEVEL_INFO, "TLS handshake failed",
	    LOG_STR("client", clients_name(c->client)), LOG_STR("reason", tls_reason(c->tls)));
	c->securing = false;
	if (stage == TLS_NOT_TLS) {
		tls_free(c->tls);
		c->tls = NULL;
		conn_refuse(c, 400, "this address speaks TLS: use https://");
	} else if (stage == TLS_FAILED) {
		conn_linger(c); /* an alert may be on its way */
	} else {
		conn_close(c);
	}
}
