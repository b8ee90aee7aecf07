/* liaison: see liaison.h. */
#include "worker/mcp/liaison.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/raw.h"
#include "worker/mcp/aside.h"
#include "worker/mcp/era.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/inquiry.h"
#include "worker/mcp/translate/translate.h"
#include "worker/upstream/stdio.h"

enum { REQUEST_MAX = 4096 };

enum step { STEP_INITIALIZE, STEP_INITIALIZED, STEP_LEVEL, STEP_CREATE };

struct liaison {
	LIST_ENTRY(liaison) link; /* worker's liaisons */
	struct liaison_want want;
	struct inquiry inquiry;
	struct session_call broker;
	struct session_record record;
	struct buffer state;
	enum step step;
	TAILQ_HEAD(liaison_waits, liaison_wait) waits;
};

static void take_step(struct liaison *l);

/* --- what it is for --- */

static const char *const levels[] = {"\"debug\"", "\"info\"", "\"notice\"", "\"warning\"",
    "\"error\"", "\"critical\"", "\"alert\"", "\"emergency\""};

int liaison_level(struct span raw)
{
	for (int i = 0; i < (int)(sizeof(levels) / sizeof(levels[0])); i++) {
		if (span_equal(raw, span_of(levels[i])))
			return i;
	}
	return -1;
}

struct session_id liaison_id(const struct liaison_want *want)
{
	const struct role_boot *boot = want->upstream->worker->boot;
	struct session_id id = {{0}};
	uint8_t digest[EVP_MAX_MD_SIZE] = {0};
	char text[SESSION_NAME_MAX + 64];
	unsigned length = 0;
	int n =
	    snprintf(text, sizeof(text), "liaison %u %d %u %d %s", want->capabilities, want->level,
		want->lease, want->lease > 0 ? (int)getpid() : 0, want->upstream->config->name);

	HMAC(EVP_sha256(), boot->session_key, SESSION_KEY_SIZE, (const unsigned char *)text,
	    (size_t)n, digest, &length);
	memcpy(id.bytes + SESSION_ID_HEAD, digest, SESSION_ID_BYTES - SESSION_ID_HEAD);
	return id;
}

/* --- life --- */

/* Over; freed when the loop turns, as its call may be the one that is running. */
static void liaison_close(struct liaison *l)
{
	struct worker *w = l->want.upstream->worker;

	inquiry_cancel(&l->inquiry);
	session_call_cancel(w->sessions, &l->broker);
	LIST_REMOVE(l, link);
	LIST_INSERT_HEAD(&w->closed_liaisons, l, link);
}

static void liaison_free(struct liaison *l)
{
	LIST_REMOVE(l, link);
	inquiry_release(&l->inquiry);
	buffer_release(&l->state);
	free(l);
}

void liaisons_free_closed(struct worker *w)
{
	while (!LIST_EMPTY(&w->closed_liaisons))
		liaison_free(LIST_FIRST(&w->closed_liaisons));
}

void liaison_cancel(struct liaison_wait *wait)
{
	if (!wait->liaison)
		return;
	TAILQ_REMOVE(&wait->liaison->waits, wait, link);
	wait->liaison = NULL;
}

/* Tell all who wait, and go. */
static void settle(
    struct liaison *l, const struct session_record *record, int reason, const char *detail)
{
	struct liaison_wait *wait;

	while ((wait = TAILQ_FIRST(&l->waits))) {
		liaison_cancel(wait);
		wait->done(wait, record, reason, detail);
	}
	liaison_close(l);
}

static void fail(struct liaison *l, int reason, const char *detail)
{
	struct session_record *r = &l->record;

	if (l->step > STEP_INITIALIZE)
		aside_end_session(l->want.upstream->worker, r);
	settle(l, NULL, reason, detail);
}

/* --- the broker --- */

static void on_found(struct session_call *call, int status, const struct session_record *record)
{
	struct liaison *l = container_of(call, struct liaison, broker);

	if (status)
		settle(l, NULL, METRIC_REASON_CLOSED, "the session broker does not answer");
	else
		settle(l, record, UPSTREAM_OK, "");
}

/* Another worker was faster: its session is the one. */
static void use_others(struct liaison *l)
{
	struct worker *w = l->want.upstream->worker;
	int error = 0;

	aside_end_session(w, &l->record);
	l->broker.done = on_found;
	const struct session_record *record =
	    sessions_get(w->sessions, &l->record.id, &l->broker, &error);
	if (record)
		settle(l, record, UPSTREAM_OK, "");
	else if (error)
		settle(l, NULL, METRIC_REASON_CLOSED, "the session broker does not answer");
}

static void on_created(struct session_call *call, int status, const struct session_record *record)
{
	struct liaison *l = container_of(call, struct liaison, broker);
	struct upstream *u = l->want.upstream;

	(void)record;
	if (status == -EPROTO) {
		use_others(l);
		return;
	}
	if (status) {
		fail(l, METRIC_REASON_LIMIT,
		    status == -ENOSPC ? "sessions.max is reached"
				      : "the session broker does not answer");
		return;
	}
	if (u->config->kind == CONFIG_STDIO)
		stdio_bind(u->worker->stdio, &l->record);
	LOG(u->worker->log, LOG_LEVEL_INFO, "session for clients without one opened",
	    LOG_STR("upstream", u->config->name), LOG_UINT("capabilities", l->want.capabilities));
	settle(l, &l->record, UPSTREAM_OK, "");
}

static void create(struct liaison *l)
{
	struct worker *w = l->want.upstream->worker;

	l->broker.done = on_created;
	if (sessions_create(w->sessions, &l->record, &l->broker))
		fail(l, METRIC_REASON_LIMIT, "the session broker does not answer");
}

/* --- the upstream's answers --- */

/* What is known of the upstream from now on. Its instructions are left out when they are too long
 * to be kept. */
static int keep_result(struct liaison *l, struct span result)
{
	static const char *const kept_last[] = {"instructions", "_meta", NULL};
	struct compose c = {.out = &l->state, .bound = SESSION_STATE_MAX};

	if (result.n <= SESSION_STATE_MAX) {
		compose_raw(&c, result);
	} else {
		compose_open(&c, '{');
		compose_members(&c, result, kept_last);
		compose_close(&c, '}');
	}
	l->record.state = buffer_span(&l->state);
	return c.error;
}

/* True when the handshake goes on. */
static bool take_result(struct liaison *l, const struct envelope *e)
{
	int version = e->protocol_version.p ? mcp_version_find(e->protocol_version) : -1;

	if (version < 0) {
		fail(l, METRIC_REASON_PROTOCOL, "it negotiated a revision that is not spoken here");
		return false;
	}
	l->record.version = (uint8_t)version;
	if (keep_result(l, e->result)) {
		fail(l, METRIC_REASON_PROTOCOL, "its answer to initialize is too long");
		return false;
	}
	return true;
}

static void on_head(struct inquiry *q, const struct http_head *head)
{
	struct liaison *l = container_of(q, struct liaison, inquiry);
	const struct http_header *id = head_find(head, HTTP_MCP_SESSION_ID);

	if (l->step != STEP_INITIALIZE || !id)
		return;
	if (id->value.n >= SESSION_UPSTREAM_ID_MAX) {
		fail(l, METRIC_REASON_PROTOCOL, "its Mcp-Session-Id is too long");
		return;
	}
	memcpy(l->record.upstream_session, id->value.p, id->value.n);
	l->record.upstream_session[id->value.n] = '\0';
}

static void on_answer(struct inquiry *q, const struct envelope *e, int reason, const char *detail)
{
	struct liaison *l = container_of(q, struct liaison, inquiry);
	char text[96];

	if (reason != UPSTREAM_OK) {
		fail(l, reason, detail);
		return;
	}
	if (l->step == STEP_INITIALIZE && !(e && e->kind == ENVELOPE_RESULT && q->status == 200)) {
		era_forget(l->want.upstream);
		snprintf(text, sizeof(text), "it refused initialize with status %u", q->status);
		fail(l, METRIC_REASON_STATUS, text);
		return;
	}
	if (l->step == STEP_INITIALIZE && !take_result(l, e))
		return;
	/* Neither a 202 that is none nor a level that is refused is worth a failure. */
	l->step++;
	take_step(l);
}

/* --- steps --- */

static void put_initialize(struct compose *c, const struct liaison *l)
{
	compose_raw(
	    c, SPAN("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
		    "\"protocolVersion\":\"2025-11-25\",\"clientInfo\":{\"name\":\"margay\","
		    "\"version\":\"" MARGAY_VERSION "\"},\"capabilities\":"));
	capabilities_to_legacy(c, l->want.capabilities);
	compose_raw(c, SPAN("}}"));
}

static void put_initialized(struct compose *c, const struct liaison *l)
{
	(void)l;
	compose_raw(c, SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}"));
}

static void put_level(struct compose *c, const struct liaison *l)
{
	compose_raw(c, SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"logging/setLevel\","
			    "\"params\":{\"level\":"));
	compose_raw(c, span_of(levels[l->want.level]));
	compose_raw(c, SPAN("}}"));
}

static const struct {
	void (*put)(struct compose *c, const struct liaison *l);
	enum upstream_action action;
	bool single;
} steps[] = {
    [STEP_INITIALIZE] = {put_initialize, UPSTREAM_OPEN, true},
    [STEP_INITIALIZED] = {put_initialized, UPSTREAM_POST, false},
    [STEP_LEVEL] = {put_level, UPSTREAM_POST, true},
};

static bool wants_level(const struct liaison *l)
{
	struct span capabilities, logging;

	return l->want.level >= 0 && raw_object(l->record.state, "capabilities", &capabilities) &&
	       raw_object(capabilities, "logging", &logging);
}

static void take_step(struct liaison *l)
{
	struct inquiry *q = &l->inquiry;
	struct compose c = {.out = &q->body, .bound = REQUEST_MAX};

	if (l->step == STEP_LEVEL && !wants_level(l))
		l->step = STEP_CREATE;
	if (l->step == STEP_CREATE) {
		create(l);
		return;
	}
	const struct inquiry_target target = {.upstream = l->want.upstream,
	    .record = l->step == STEP_INITIALIZE ? NULL : &l->record,
	    .action = steps[l->step].action,
	    .session = l->record.id,
	    .notification = !steps[l->step].single};
	buffer_consume(&q->body, buffer_length(&q->body));
	steps[l->step].put(&c, l);
	q->head = on_head;
	q->done = on_answer;
	if (c.error || inquiry_send(q, &target))
		fail(l, METRIC_REASON_LIMIT, "out of memory");
}

static struct liaison *liaison_create(const struct liaison_want *want, const struct session_id *id)
{
	struct worker *w = want->upstream->worker;
	struct liaison *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->want = *want;
	l->record = (struct session_record){.id = *id,
	    .version = MCP_2025_11_25,
	    .idle_timeout = (uint32_t)w->config->sessions.idle_timeout};
	snprintf(
	    l->record.upstream, sizeof(l->record.upstream), "%s", want->upstream->config->name);
	TAILQ_INIT(&l->waits);
	LIST_INSERT_HEAD(&w->liaisons, l, link);
	return l;
}

bool liaison_open(const struct liaison_want *want, struct liaison_wait *wait)
{
	struct worker *w = want->upstream->worker;
	struct session_id id = liaison_id(want);
	struct liaison *l;
	bool first = false;

	LIST_FOREACH (l, &w->liaisons, link) {
		if (memcmp(&l->record.id, &id, sizeof(id)) == 0)
			break;
	}
	if (!l) {
		first = true;
		l = liaison_create(want, &id);
		if (!l)
			return false;
	}
	wait->liaison = l;
	TAILQ_INSERT_TAIL(&l->waits, wait, link);
	if (first)
		take_step(l);
	return true;
}

void liaisons_close(struct worker *w)
{
	while (!LIST_EMPTY(&w->liaisons))
		liaison_close(LIST_FIRST(&w->liaisons));
	liaisons_free_closed(w);
}
