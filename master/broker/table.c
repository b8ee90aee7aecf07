/* table: see table.h. */
#include "master/broker/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "master/broker/estate.h"

enum { TABLE_RECORD_MAX = SESSION_STATE_MAX + 1024 };

_Static_assert(sizeof(struct session_record) + SESSION_STATE_MAX + 16 < TABLE_RECORD_MAX,
    "the wire form always fits");

/* The sessions of one idle timeout, the longest unused first. Freed with its last session. */
struct table_fifo {
	LIST_ENTRY(table_fifo) link;
	uint32_t idle_timeout; /* seconds */
	TAILQ_HEAD(table_sessions, session) sessions;
};

void table_init(struct table *t)
{
	*t = (struct table){0};
	LIST_INIT(&t->fifos);
}

void table_close(struct table *t)
{
	while (t->by_id)
		table_remove(t, t->by_id);
}

size_t table_count(const struct table *t)
{
	return HASH_COUNT(t->by_id);
}

struct session *table_find(const struct table *t, const struct session_id *id)
{
	struct session *s;

	HASH_FIND(hh, t->by_id, id->bytes, SESSION_ID_BYTES, s);
	return s;
}

static struct table_fifo *table_fifo(struct table *t, uint32_t idle_timeout)
{
	struct table_fifo *fifo;

	LIST_FOREACH (fifo, &t->fifos, link) {
		if (fifo->idle_timeout == idle_timeout)
			return fifo;
	}
	fifo = malloc(sizeof(*fifo));
	if (!fifo)
		return NULL;
	fifo->idle_timeout = idle_timeout;
	TAILQ_INIT(&fifo->sessions);
	LIST_INSERT_HEAD(&t->fifos, fifo, link);
	return fifo;
}

static void table_fifo_release(struct table_fifo *fifo)
{
	if (!TAILQ_EMPTY(&fifo->sessions))
		return;
	LIST_REMOVE(fifo, link);
	free(fifo);
}

int table_add(
    struct table *t, const struct session_record *record, double now, struct session **out)
{
	char bytes[TABLE_RECORD_MAX];
	struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};

	*out = table_find(t, &record->id);
	if (*out)
		return -EEXIST;
	session_record_put(&w, record);
	struct session *s = malloc(sizeof(*s) + w.length);
	if (!s)
		return -ENOMEM;
	struct table_fifo *fifo = table_fifo(t, record->idle_timeout);
	if (!fifo) {
		free(s);
		return -ENOMEM;
	}
	s->fifo = fifo;
	s->used = now;
	s->cached = 0;
	s->length = w.length;
	memcpy(s->record, bytes, w.length);
	HASH_ADD_KEYPTR(hh, t->by_id, s->record, SESSION_ID_BYTES, s);
	if (!s->hh.tbl) {
		table_fifo_release(fifo);
		free(s);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&fifo->sessions, s, link);
	t->bytes += s->length;
	*out = s;
	return 0;
}

void table_touch(struct session *s, double now)
{
	s->used = now;
	TAILQ_REMOVE(&s->fifo->sessions, s, link);
	TAILQ_INSERT_TAIL(&s->fifo->sessions, s, link);
}

struct session *table_expired(const struct table *t, double now)
{
	struct table_fifo *fifo;

	LIST_FOREACH (fifo, &t->fifos, link) {
		struct session *oldest = TAILQ_FIRST(&fifo->sessions);
		double patience = fifo->idle_timeout * (1 + 2. / BROKER_TOUCH_PARTS);
		if (oldest && now - oldest->used >= patience)
			return oldest;
	}
	return NULL;
}

void table_remove(struct table *t, struct session *s)
{
	HASH_DEL(t->by_id, s);
	TAILQ_REMOVE(&s->fifo->sessions, s, link);
	table_fifo_release(s->fifo);
	t->bytes -= s->length;
	free(s);
}

void table_leave(const struct table *t, struct handover *h)
{
	const struct table_fifo *fifo;
	const struct session *s;

	LIST_FOREACH (fifo, &t->fifos, link) {
		TAILQ_FOREACH (s, &fifo->sessions, link) {
			struct estate_session head = {
			    .cached = s->cached, .used = s->used, .id = session_key(s)};
			handover_put(h, ESTATE_SESSION, &head, sizeof(head), NULL, 0);
		}
	}
}

struct session_id session_key(const struct session *s)
{
	struct session_id id;

	memcpy(id.bytes, s->record, SESSION_ID_BYTES);
	return id;
}
