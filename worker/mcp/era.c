/* era: see era.h. */
#include "worker/mcp/era.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/inquiry.h"

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
	struct inquiry inquiry;
	struct era_waits waits;
};

enum era era_of(const struct upstream *u)
{
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
	inquiry_release(&p->inquiry);
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

static enum era judge(struct era_probe *p, const struct envelope *e)
{
	struct buffer *kept = &p->upstream->discover;

	if (!e)
		return ERA_LEGACY;
	if (e->kind == ENVELOPE_ERROR)
		return is_modern_error(e->error) ? ERA_MODERN : ERA_LEGACY;
	if (p->inquiry.status != 200)
		return ERA_LEGACY;
	buffer_consume(kept, buffer_length(kept));
	/* Without it legacy clients are told that the upstream can't be used. */
	if (buffer_append(kept, e->result.p, e->result.n, INQUIRY_ANSWER_MAX))
		buffer_release(kept);
	return ERA_MODERN;
}

/* Neither credentials that are missing nor a server in trouble tell anything about its era. */
static bool says_nothing(unsigned status)
{
	return status == 401 || status == 403 || status == 407 || status == 429 || status >= 500;
}

static void on_answer(struct inquiry *q, const struct envelope *e, int reason, const char *detail)
{
	struct era_probe *p = container_of(q, struct era_probe, inquiry);
	struct upstream *u = p->upstream;
	struct era_waits waits = TAILQ_HEAD_INITIALIZER(waits);
	struct era_wait *wait;
	char text[160];

	/* What is too long is no answer to this question. */
	if (reason == METRIC_REASON_PROTOCOL && q->status == 200)
		reason = UPSTREAM_OK;
	snprintf(text, sizeof(text), "%s", detail);
	if (reason == UPSTREAM_OK && says_nothing(q->status)) {
		reason = METRIC_REASON_STATUS;
		snprintf(
		    text, sizeof(text), "it answered server/discover with status %u", q->status);
	}
	if (reason == UPSTREAM_OK) {
		u->era = (int)judge(p, e);
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
	/* The inquiry does not look back after `done`. */
	probe_free(p);
	while ((wait = TAILQ_FIRST(&waits))) {
		era_cancel(wait);
		wait->done(wait, era, reason, text);
	}
}

static struct era_probe *probe_create(struct upstream *u)
{
	struct era_probe *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->upstream = u;
	TAILQ_INIT(&p->waits);
	p->inquiry.done = on_answer;
	if (buffer_append(&p->inquiry.body, question, sizeof(question) - 1, sizeof(question))) {
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
	const struct inquiry_target target = {
	    .upstream = u, .action = UPSTREAM_ASK, .fields = SPAN(question_fields)};
	if (!first || !inquiry_send(&p->inquiry, &target))
		return true;
	era_cancel(wait);
	probe_free(p);
	return false;
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
		inquiry_cancel(&p->inquiry);
		probe_free(p);
	}
}
