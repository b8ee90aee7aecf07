/* session: see session.h. */
#include "master/demo/session.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#include "master/demo/call.h"
#include "master/demo/json.h"

const char *const revision_names[REVISIONS] = {
    "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"};

bool revision_parse(struct span name, enum revision *out)
{
	for (int i = 0; i < REVISIONS; i++) {
		if (span_equal(name, span_of(revision_names[i]))) {
			*out = (enum revision)i;
			return true;
		}
	}
	return false;
}

void session_table_init(struct session_table *table, unsigned max)
{
	*table = (struct session_table){.max = max};
	TAILQ_INIT(&table->idle);
	TAILQ_INIT(&table->subscribers);
	TAILQ_INIT(&table->to_notify);
}

static void session_set_idle(struct session *s, bool idle)
{
	if (s->idle)
		TAILQ_REMOVE(&s->table->idle, s, idle_link);
	if (idle)
		TAILQ_INSERT_TAIL(&s->table->idle, s, idle_link);
	s->idle = idle;
}

static void session_free(struct session *s)
{
	session_subscribe(s, false);
	session_set_idle(s, false);
	HASH_DEL(s->table->by_id, s);
	free(s);
}

void session_table_release(struct session_table *table)
{
	struct session *s, *next;

	HASH_ITER (hh, table->by_id, s, next)
		session_free(s);
}

int session_create(struct session_table *table, struct session **out)
{
	unsigned char random[DEMO_SESSION_ID_TEXT / 2];

	if (HASH_COUNT(table->by_id) >= table->max) {
		struct session *oldest = TAILQ_FIRST(&table->idle);
		if (!oldest)
			return -ENOBUFS;
		session_free(oldest);
	}
	if (RAND_bytes(random, sizeof(random)) != 1)
		return -EIO;
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(s->id + 2 * i, 3, "%02x", random[i]);
	s->table = table;
	TAILQ_INIT(&s->calls);
	TAILQ_INIT(&s->streams);
	TAILQ_INIT(&s->members);
	HASH_ADD(hh, table->by_id, id, DEMO_SESSION_ID_TEXT, s);
	if (!s->hh.tbl) {
		free(s);
		return -ENOMEM;
	}
	session_set_idle(s, true);
	*out = s;
	return 0;
}

struct session *session_find(const struct session_table *table, struct span id)
{
	struct session *s = NULL;

	if (id.n == DEMO_SESSION_ID_TEXT)
		HASH_FIND(hh, table->by_id, id.p, DEMO_SESSION_ID_TEXT, s);
	return s;
}

void session_enter(struct session *s, struct exchange *x)
{
	x->session = s;
	TAILQ_INSERT_TAIL(&s->members, x, member_link);
	session_set_idle(s, false);
}

void session_leave(struct exchange *x)
{
	struct session *s = x->session;

	if (!s)
		return;
	if (x->streaming)
		TAILQ_REMOVE(&s->streams, x, stream_link);
	x->streaming = false;
	x->session = NULL;
	TAILQ_REMOVE(&s->members, x, member_link);
	if (TAILQ_EMPTY(&s->members))
		session_set_idle(s, true);
}

/* resources/updated on the oldest stream: a message goes on exactly one (2025-03-26, transports).
 */
static void session_send_updated(struct session *s)
{
	struct exchange *x = TAILQ_FIRST(&s->streams);

	s->updated = !x;
	if (!x)
		return;
	struct message m;
	cJSON *params = cJSON_CreateObject();
	bool complete = cJSON_AddStringToObject(params, "uri", "demo://greeting") != NULL;
	params = json_finish(params, complete);
	int error = message_notification(&m, "notifications/resources/updated", params);
	exchange_side(x, error, &m);
}

void session_stream(struct session *s, struct exchange *x)
{
	TAILQ_INSERT_TAIL(&s->streams, x, stream_link);
	x->streaming = true;
	if (s->updated)
		session_send_updated(s);
}

void session_end(struct session *s)
{
	struct call *call, *next_call;
	struct exchange *x;

	TAILQ_FOREACH_SAFE (call, &s->calls, session_link, next_call) {
		exchange_error(call->exchange, call->id, RPC_SERVER_ERROR, "The session ended");
		call_drop(call);
	}
	while ((x = TAILQ_FIRST(&s->streams))) {
		session_leave(x);
		x->ops->answer(x, NULL);
	}
	while ((x = TAILQ_FIRST(&s->members)))
		session_leave(x);
	session_free(s);
}

void session_subscribe(struct session *s, bool on)
{
	if (s->subscribed)
		TAILQ_REMOVE(
		    s->notify ? &s->table->to_notify : &s->table->subscribers, s, subscriber_link);
	if (on)
		TAILQ_INSERT_TAIL(&s->table->subscribers, s, subscriber_link);
	s->subscribed = on;
	s->notify = s->updated = false;
}

void session_touch(struct session_table *table)
{
	struct session *s;

	TAILQ_FOREACH (s, &table->subscribers, subscriber_link)
		s->notify = true;
	TAILQ_CONCAT(&table->to_notify, &table->subscribers, subscriber_link);
}

bool session_notify(struct session_table *table, unsigned budget)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&table->to_notify)) && budget-- > 0) {
		TAILQ_REMOVE(&table->to_notify, s, subscriber_link);
		TAILQ_INSERT_TAIL(&table->subscribers, s, subscriber_link);
		s->notify = false;
		session_send_updated(s);
	}
	return s != NULL;
}
