/*
 * access: what is left of a request when it is over: its line in the access log, and the counters.
 *
 * Noted once by whoever gave the last of the answer, an exchange or a listening (listen.h). Owns
 * nothing. Inline, as it is a part of every request: to gather what it wants costs more than to
 * count.
 */
#ifndef MARGAY_WORKER_MCP_ACCESS_H
#define MARGAY_WORKER_MCP_ACCESS_H

#include "worker/http/conn.h"
#include "worker/policy/clients.h"
#include "worker/route.h"
#include "worker/upstream/upstream.h"
#include "worker/worker.h"

struct access {
	const struct route *route; /* NULL: none was found */
	enum metric_method class;
	enum metric_outcome outcome;
	unsigned status;
	const struct session_id *session; /* NULL: none */
	const char *method;               /* empty: what its class is called */
	const char *name;                 /* params.name; empty: none */
	const char *trace;                /* traceparent; empty: none */
	struct span id;                   /* raw JSON; empty: none */
	uint64_t ended, upstream;         /* microseconds: the clock, how long that took */
};

static const char *const access_class_names[] = {
#define CLASS_NAME(id, name) name,
    METRIC_METHODS(CLASS_NAME)
#undef CLASS_NAME
};

static const char *const access_outcome_names[] = {
#define OUTCOME_NAME(id, name) name,
    METRIC_OUTCOMES(OUTCOME_NAME)
#undef OUTCOME_NAME
};

/* One line per request: who asked what of whom, and how it went. Never payloads, tokens or whole
 * session ids. */
static inline void access_write(const struct conn *c, const struct access *a, uint64_t micros)
{
	const struct worker *w = c->worker;
	char session[SESSION_ID_SHORT + 1] = "";

	if (a->session)
		session_id_shorten(a->session, session);
	LOG(w->log, LOG_LEVEL_INFO, "request", LOG_STR("client", clients_name(c->client)),
	    LOG_STR("route", a->route ? a->route->config->path : ""),
	    LOG_STR("upstream", a->route ? a->route->upstream->config->name : ""),
	    LOG_STR("method", a->method[0] ? a->method : access_class_names[a->class]),
	    LOG_STR("tool", a->name), LOG_RAW("id", a->id.n > 0 ? a->id : SPAN("null")),
	    LOG_STR("session", session), LOG_UINT("status", a->status),
	    LOG_STR("outcome", access_outcome_names[a->outcome]), LOG_UINT("bytes_in", c->bytes_in),
	    LOG_UINT("bytes_out", c->bytes_out), LOG_MILLIS("ms", micros),
	    LOG_MILLIS("upstream_ms", a->upstream), LOG_UINT("worker", w->boot->number),
	    LOG_STR("trace", a->trace));
}

/* The request that `c` answered last. */
static inline void access_note(const struct conn *c, const struct access *a)
{
	struct worker *w = c->worker;
	unsigned route = a->route ? a->route->metrics_id : 0;
	uint64_t micros = c->request_started > 0 ? a->ended - c->request_started : 0;

	METRIC_ADD(w->metrics, REQUESTS, 1, route, a->class, a->outcome);
	METRIC_ADD(w->metrics, WORKER_REQUESTS, 1, w->boot->number);
	METRIC_OBSERVE(w->metrics, REQUEST_SECONDS, micros, route, a->class);
	METRIC_ADD(w->metrics, BYTES, c->bytes_in, route, METRIC_DIRECTION_IN);
	METRIC_ADD(w->metrics, BYTES, c->bytes_out, route, METRIC_DIRECTION_OUT);
	if (w->config->log.access)
		access_write(c, a, micros);
}

#endif
