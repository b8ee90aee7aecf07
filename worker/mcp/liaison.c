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
#include "worker/mcp/translate/translate.h"
#include "worker/upstream/stdio.h"

enum { ANSWER_MAX = 4 * 1024 * 1024, REQUEST_MAX = 4096 };

enum step { STEP_INITIALIZE, STEP_INITIALIZED, STEP_LEVEL, STEP_CREATE };

struct liaison {
	LIST_ENTRY(liaison) link; /* worker's liaisons */
	struct liaison_want want;
	struct upstream_call call;
	struct session_call broker;
	struct session_record record;
	struct buffer body, answer, state;
	struct sse_data events;
	enum step step;
	unsigned status;
	bool sse, answered;
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
	memcpy(id.bytes + 3, digest, SESSION_ID_BYTES - 3);
	return id;
}

/* --- life --- */

static struct liaison *liaison_of(struct upstream_call *call)
{
	return container_of(call, struct liaison, call);
}

/* Over; freed when the loop turns, as its call may be the one that is running. */
static void liaison_close(struct liaison *l)
{
	struct worker *w = l->want.upstream->worker;

	upstream_call_cancel(&l->call);
	session_call_cancel(w->sessions, &l->broker);
	LIST_REMOVE(l, link);
	LIST_INSERT_HEAD(&w->closed_liaisons, l, link);
}

static void liaison_free(struct liaison *l)
{
	LIST_REMOVE(l, link);
	buffer_release(&l->call.head);
	buffer_release(&l->body);
	buffer_release(&l->answer);
	buffer_release(&l->state);
	sse_data_release(&l->events);
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

static void on_initialized(struct liaison *l, const struct envelope *e)
{
	int version = e->protocol_version.p ? mcp_version_find(e->protocol_version) : -1;

	if (version < 0) {
		fail(l, METRIC_REASON_PROTOCOL, "it negotiated a revision that is not spoken here");
		return;
	}
	l->record.version = (uint8_t)version;
	if (keep_result(l, e->result)) {
		fail(l, METRIC_REASON_PROTOCOL, "its answer to initialize is too long");
		return;
	}
	l->answered = true;
}

/* One message of an answer. Non-zero when there is nothing more to look at. */
static int judge(struct liaison *l, struct span message)
{
	struct worker *w = l->want.upstream->worker;
	struct envelope *e = &w->envelope;
	struct envelope_fault fault;

	if (envelope_scan(message, w->config->limits.json_depth, e, &fault))
		return 0;
	if (e->kind == ENVELOPE_ERROR && l->step == STEP_INITIALIZE) {
		era_forget(l->want.upstream);
		fail(l, METRIC_REASON_PROTOCOL, "it refused initialize");
		return 1;
	}
	if (e->kind != ENVELOPE_RESULT)
		return 0;
	if (l->step == STEP_INITIALIZE)
		on_initialized(l, e);
	return 1;
}

static int on_event(struct sse_data *events, struct span data)
{
	return judge(container_of(events, struct liaison, events), data);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	struct liaison *l = liaison_of(call);
	const struct http_header *type = head_find(head, SPAN("content-type"), NULL);
	const struct http_header *id = head_find(head, SPAN("mcp-session-id"), NULL);

	l->status = head->status;
	l->sse = type && header_has_token(type->value, SPAN("text/event-stream"));
	if (l->step != STEP_INITIALIZE || !id)
		return;
	if (id->value.n >= SESSION_UPSTREAM_ID_MAX) {
		fail(l, METRIC_REASON_PROTOCOL, "its Mcp-Session-Id is too long");
		return;
	}
	memcpy(l->record.upstream_session, id->value.p, id->value.n);
	l->record.upstream_session[id->value.n] = '\0';
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct liaison *l = liaison_of(call);
	int status = l->sse ? sse_data_feed(&l->events, p, n, ANSWER_MAX, on_event)
			    : buffer_append(&l->answer, p, n, ANSWER_MAX);

	if (status < 0)
		fail(l, METRIC_REASON_PROTOCOL, "its answer to a handshake is too long");
}

static void on_read_end(struct upstream_call *call)
{
	(void)call;
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct liaison *l = liaison_of(call);
	char text[96];

	if (reason != UPSTREAM_OK) {
		snprintf(text, sizeof(text), "%s", detail);
		fail(l, reason, text);
		return;
	}
	if (l->step == STEP_INITIALIZE && l->status == 200 && !l->sse &&
	    judge(l, buffer_span(&l->answer)) && !l->answered)
		return; /* it failed */
	if (l->step == STEP_INITIALIZE && !l->answered) {
		era_forget(l->want.upstream);
		snprintf(text, sizeof(text), "it answered initialize with status %u", l->status);
		fail(l, METRIC_REASON_STATUS, text);
		return;
	}
	/* Neither a 202 that is none nor a level that is refused is worth a failure. */
	l->step++;
	take_step(l);
}

static const struct upstream_call_ops liaison_ops = {on_head, on_body, on_read_end, on_end};

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
	struct upstream *u = l->want.upstream;
	const struct session_record *record = l->step == STEP_INITIALIZE ? NULL : &l->record;
	struct compose c = {.out = &l->body, .bound = REQUEST_MAX};

	if (l->step == STEP_LEVEL && !wants_level(l))
		l->step = STEP_CREATE;
	if (l->step == STEP_CREATE) {
		create(l);
		return;
	}
	buffer_consume(&l->body, buffer_length(&l->body));
	buffer_consume(&l->call.head, buffer_length(&l->call.head));
	buffer_consume(&l->answer, buffer_length(&l->answer));
	steps[l->step].put(&c, l);
	struct buffer head = l->call.head;
	struct span body = buffer_span(&l->body);
	if (u->config->kind == CONFIG_HTTP)
		c.error |= relay_build_head(
		    &head, "POST", u, record, (struct span){0}, (struct span){0}, &body);
	l->call = (struct upstream_call){.upstream = u,
	    .ops = &liaison_ops,
	    .head = head,
	    .body = body,
	    .action = steps[l->step].action,
	    .session = l->record.id,
	    .child_name = l->record.upstream_session,
	    .single = steps[l->step].single,
	    .repeatable = true};
	if (c.error)
		fail(l, METRIC_REASON_LIMIT, "out of memory");
	else
		upstream_call_start(&l->call);
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
