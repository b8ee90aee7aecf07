/* era: see era.h. */
#include "worker/mcp/era.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/http/sse.h"
#include "worker/mcp/exchange.h"

enum { ANSWER_MAX = 256 * 1024 };

/* A server that is upgraded is found out by its next answer; one that was legacy, by asking again.
 */
static const double legacy_trust = 60; /* seconds */

static const char question[] =
    "{\"jsonrpc\":\"2.0\",\"id\":\"margay-discover\",\"method\":\"server/discover\",\"params\":{"
    "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"" MCP_STATELESS "\","
    "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"margay\",\"version\":\"" MARGAY_VERSION
    "\"},\"io.modelcontextprotocol/clientCapabilities\":{}}}}";

static const char question_fields[] =
    "MCP-Protocol-Version: " MCP_STATELESS "\r\nMcp-Method: server/discover\r\n";

struct era_probe {
	struct upstream *upstream;
	struct upstream_call call;
	struct buffer answer;
	struct sse_data events;
	unsigned status;
	bool sse, found;
	enum era era;
	struct era_waits waits;
};

static struct era_probe *probe_of(struct upstream_call *call)
{
	return container_of(call, struct era_probe, call);
}

enum era era_of(const struct upstream *u)
{
	if (u->config->kind == CONFIG_STDIO)
		return ERA_LEGACY;
	if (u->era == ERA_LEGACY && clock_coarse() - u->era_since > legacy_trust)
		return ERA_UNKNOWN;
	return (enum era)u->era;
}

bool era_is_modern_only(const struct upstream *u)
{
	return u->refuses_initialize && era_of(u) == ERA_MODERN &&
	       clock_coarse() - u->era_since <= legacy_trust;
}

void era_forget(struct upstream *u)
{
	u->refuses_initialize = false;
	u->era = ERA_UNKNOWN;
}

static void probe_free(struct era_probe *p)
{
	p->upstream->probe = NULL;
	buffer_release(&p->call.head);
	buffer_release(&p->answer);
	sse_data_release(&p->events);
	free(p);
}

/* -32022, -32021 and -32020 exist in the stateless era only (mcp-wire, 2.1). */
static bool is_modern_error(struct span error)
{
	cJSON *object = cJSON_ParseWithLength(error.p, error.n);
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(object, "code");
	bool modern = cJSON_IsNumber(code) && code->valueint <= -32020 && code->valueint >= -32022;

	cJSON_Delete(object);
	return modern;
}

/* One message of the answer. */
static void judge(struct era_probe *p, struct span message)
{
	struct worker *w = p->upstream->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	if (p->found || envelope_scan(message, w->config->limits.json_depth, e, &fault))
		return;
	if (e->kind == ENVELOPE_RESULT && p->status != 200) {
		p->era = ERA_LEGACY;
	} else if (e->kind == ENVELOPE_RESULT) {
		struct buffer *kept = &p->upstream->discover;
		buffer_consume(kept, buffer_length(kept));
		/* Without it legacy clients are told that the upstream can't be used. */
		if (buffer_append(kept, e->result.p, e->result.n, ANSWER_MAX))
			buffer_release(kept);
		p->era = ERA_MODERN;
	} else if (e->kind == ENVELOPE_ERROR)
		p->era = is_modern_error(e->error) ? ERA_MODERN : ERA_LEGACY;
	else
		return;
	p->found = true;
}

static int on_event(struct sse_data *events, struct span data)
{
	judge(container_of(events, struct era_probe, events), data);
	return 0;
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct era_probe *p = probe_of(call);
	const struct http_header *type = head_find(head, SPAN("content-type"), NULL);

	p->status = head->status;
	p->sse = type && header_has_token(type->value, SPAN("text/event-stream"));
}

static void on_body(struct upstream_call *call, const char *bytes, size_t n)
{
	struct era_probe *p = probe_of(call);

	/* What is too long is no answer to this question. */
	if (p->sse)
		p->found |= sse_data_feed(&p->events, bytes, n, ANSWER_MAX, on_event) < 0;
	else if (buffer_append(&p->answer, bytes, n, ANSWER_MAX))
		p->found = true;
}

static void on_read_end(struct upstream_call *call)
{
	(void)call;
}

/* Neither credentials that are missing nor a server in trouble tell anything about its era. */
static bool says_nothing(unsigned status)
{
	return status == 401 || status == 403 || status == 407 || status == 429 || status >= 500;
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct era_probe *p = probe_of(call);
	struct upstream *u = p->upstream;
	struct era_waits waits = TAILQ_HEAD_INITIALIZER(waits);
	struct era_wait *wait;
	char text[160];

	if (reason == UPSTREAM_OK && says_nothing(p->status)) {
		reason = METRIC_REASON_STATUS;
		snprintf(
		    text, sizeof(text), "it answered server/discover with status %u", p->status);
	} else {
		snprintf(text, sizeof(text), "%s", detail);
	}
	if (reason == UPSTREAM_OK) {
		if (!p->sse)
			judge(p, buffer_span(&p->answer));
		u->era = p->era == ERA_MODERN ? ERA_MODERN : ERA_LEGACY;
		u->era_since = clock_coarse();
		LOG(u->worker->log, LOG_LEVEL_INFO, "era of an upstream found out",
		    LOG_STR("upstream", u->config->name),
		    LOG_STR("era", u->era == ERA_MODERN ? MCP_STATELESS " and later" : "legacy"));
	}
	enum era era = reason == UPSTREAM_OK ? (enum era)u->era : ERA_UNKNOWN;
	while ((wait = TAILQ_FIRST(&p->waits))) {
		TAILQ_REMOVE(&p->waits, wait, link);
		TAILQ_INSERT_TAIL(&waits, wait, link);
		wait->list = &waits;
	}
	/* The call does not look back after `end`. */
	probe_free(p);
	while ((wait = TAILQ_FIRST(&waits))) {
		era_cancel(wait);
		wait->done(wait, era, reason, text);
	}
}

static const struct upstream_call_ops probe_ops = {on_head, on_body, on_read_end, on_end};

static struct era_probe *probe_create(struct upstream *u)
{
	struct era_probe *p = calloc(1, sizeof(*p));
	struct span body = SPAN(question);

	if (!p)
		return NULL;
	p->upstream = u;
	TAILQ_INIT(&p->waits);
	p->call.upstream = u;
	p->call.ops = &probe_ops;
	p->call.body = body;
	p->call.repeatable = true;
	if (relay_build_head(
		&p->call.head, "POST", u, NULL, (struct span){0}, SPAN(question_fields), &body)) {
		buffer_release(&p->call.head);
		free(p);
		return NULL;
	}
	u->probe = p;
	return p;
}

bool era_ask(struct upstream *u, struct era_wait *wait)
{
	struct era_probe *p = u->probe;
	bool first = !p;

	if (!p && !(p = probe_create(u)))
		return false;
	wait->list = &p->waits;
	TAILQ_INSERT_TAIL(&p->waits, wait, link);
	if (first)
		upstream_call_start(&p->call);
	return true;
}

void era_cancel(struct era_wait *wait)
{
	if (!wait->list)
		return;
	TAILQ_REMOVE(wait->list, wait, link);
	wait->list = NULL;
}

void era_close(struct worker *w)
{
	for (size_t i = 0; i < w->config->upstream_count; i++) {
		struct era_probe *p = w->upstreams[i].probe;
		if (!p)
			continue;
		upstream_call_cancel(&p->call);
		probe_free(p);
	}
}
