/* client: one worker's connection to the broker. Requests are rows of a table; replies go out at
 * once or wait in a bounded queue, and a client that does not read its replies is not read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/credentials.h"
#include "common/ipc/frame.h"
#include "common/turn.h"
#include "master/broker/estate.h"

enum { CLIENT_QUEUE_MAX = 1 << 20, CLIENT_REPLY_MAX = SESSION_STATE_MAX + 2048 };

struct client_frame {
	TAILQ_ENTRY(client_frame) link;
	struct frame header;
	int fd; /* goes along, or -1 */
	char payload[];
};

struct client {
	struct broker *broker;
	unsigned index; /* the bit in session.cached */
	bool greeted, closed;
	int passed; /* the descriptor that came with the request being handled, or -1 */
	ev_io readable, writable;
	TAILQ_HEAD(client_frames, client_frame) queue;
	size_t queued; /* bytes */
	LIST_ENTRY(client) dead;
};

void client_close(struct client *c)
{
	if (c->closed)
		return;
	c->closed = true;
	ev_io_stop(c->broker->loop, &c->readable);
	ev_io_stop(c->broker->loop, &c->writable);
	close(c->readable.fd);
	c->broker->clients[c->index] = NULL;
	mail_forget(&c->broker->mail, c);
	changes_forget(&c->broker->changes, c, (uint64_t)1 << c->index);
	LIST_INSERT_HEAD(&c->broker->dead, c, dead);
}

void clients_give_up(struct broker *b, int32_t pid)
{
	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		struct client *c = b->clients[i];
		if (c && credentials_pid(c->readable.fd) == pid)
			mail_forget(&b->mail, c);
	}
}

static void client_frame_drop(struct client *c, struct client_frame *f)
{
	TAILQ_REMOVE(&c->queue, f, link);
	c->queued -= sizeof(*f) + f->header.length;
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

void clients_reap(struct broker *b)
{
	struct client *c;

	while ((c = LIST_FIRST(&b->dead))) {
		LIST_REMOVE(c, dead);
		while (!TAILQ_EMPTY(&c->queue))
			client_frame_drop(c, TAILQ_FIRST(&c->queue));
		free(c);
	}
}

void client_requeue(struct client *c, const struct frame *header, const void *payload, int fd)
{
	size_t size = sizeof(struct client_frame) + header->length;
	struct client_frame *f = NULL;

	if (!c->closed && c->queued + size <= CLIENT_QUEUE_MAX + CLIENT_REPLY_MAX)
		f = malloc(size);
	if (!f) {
		if (fd >= 0)
			close(fd);
		client_close(c);
		return;
	}
	f->header = *header;
	f->fd = fd;
	if (header->length > 0)
		memcpy(f->payload, payload, header->length);
	TAILQ_INSERT_TAIL(&c->queue, f, link);
	c->queued += size;
	ev_io_start(c->broker->loop, &c->writable);
	if (c->queued >= CLIENT_QUEUE_MAX)
		ev_io_stop(c->broker->loop, &c->readable);
}

/* Send now or queue, with a descriptor or -1 (the caller's). A push to a full queue closes the
 * client: it asks anew after it reconnects. */
static void client_pass(struct client *c, const struct frame *header, const void *payload, int fd)
{
	int error = -EAGAIN;

	if (c->closed)
		return;
	if (TAILQ_EMPTY(&c->queue))
		error = frame_send(c->readable.fd, header, payload, fd);
	if (!error)
		return;
	int kept = fd >= 0 && error == -EAGAIN ? dup(fd) : -1;
	if (error != -EAGAIN || (fd >= 0 && kept < 0))
		client_close(c);
	else
		client_requeue(c, header, payload, kept);
}

static void client_send(struct client *c, const struct frame *header, const void *payload)
{
	client_pass(c, header, payload, -1);
}

static void client_writable(struct ev_loop *loop, ev_io *w, int events)
{
	struct client *c = container_of(w, struct client, writable);
	struct client_frame *f;

	turn_enter("worker");
	(void)events;
	for (int i = 0; i < BROKER_FRAME_BUDGET && (f = TAILQ_FIRST(&c->queue)); i++) {
		int error = frame_send(w->fd, &f->header, f->payload, f->fd);
		if (error == -EAGAIN)
			break;
		if (error) {
			client_close(c);
			return;
		}
		client_frame_drop(c, f);
	}
	if (TAILQ_EMPTY(&c->queue))
		ev_io_stop(loop, w);
	if (c->queued < CLIENT_QUEUE_MAX / 4)
		ev_io_start(loop, &c->readable);
}

static void client_reply(
    struct client *c, const struct frame *asked, enum broker_status status, const struct session *s)
{
	char payload[CLIENT_REPLY_MAX];
	struct wire_writer w = {.p = payload, .capacity = sizeof(payload)};

	wire_put_u32(&w, status);
	if (s)
		wire_put_bytes(&w, s->record, s->length);
	client_send(c,
	    &(struct frame){.type = asked->type,
		.flags = FRAME_REPLY,
		.request = asked->request,
		.length = (uint32_t)w.length},
	    payload);
}

bool clients_any(const struct broker *b)
{
	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		if (b->clients[i])
			return true;
	}
	return false;
}

static uint64_t client_bit(const struct client *c)
{
	return (uint64_t)1 << c->index;
}

uint64_t clients_caching(
    const struct broker *b, const struct session *s, const struct client *asker)
{
	uint64_t clients = 0;

	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		const struct client *c = b->clients[i];
		if (c && c != asker && c->greeted)
			clients |= s->cached & client_bit(c);
	}
	return clients;
}

void clients_invalidate(
    struct broker *b, const struct session_id *id, uint64_t clients, uint32_t change)
{
	struct frame header = {
	    .type = BROKER_INVALIDATE, .request = change, .length = sizeof(id->bytes)};

	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		if (b->clients[i] && (clients & client_bit(b->clients[i])))
			client_send(b->clients[i], &header, id->bytes);
	}
}

void client_confirm(struct client *c, const struct frame *asked)
{
	client_reply(c, asked, BROKER_OK, NULL);
}

/* A worker has dropped what changed. */
static void on_invalidated(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	(void)r;
	change_heard(&c->broker->changes, asked->request, client_bit(c));
}

bool clients_reap_session(struct broker *b, uint64_t cached, const char *record, size_t n)
{
	struct frame header = {.type = BROKER_REAP, .length = (uint32_t)n};
	struct client *chosen = NULL;

	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		struct client *c = b->clients[i];
		if (!c || !c->greeted || c->queued >= CLIENT_QUEUE_MAX)
			continue;
		if (!chosen || (cached & client_bit(c)))
			chosen = c;
		if (cached & client_bit(c))
			break;
	}
	if (!chosen)
		return false;
	client_send(chosen, &header, record);
	return !chosen->closed;
}

static void on_hello(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	uint16_t protocol = wire_get_u16(r);
	uint16_t role = wire_get_u16(r);

	wire_get_u32(r); /* generation */
	wire_get_u32(r); /* number */
	if (!wire_complete(r) || protocol != BROKER_PROTOCOL || role != ROLE_WORKER) {
		client_reply(c, asked, BROKER_BAD, NULL);
		client_close(c);
		return;
	}
	c->greeted = true;
	client_reply(c, asked, BROKER_OK, NULL);
	broker_reaps_send(c->broker);
}

/* A new master. It is no client of ours: what it gets goes over a descriptor of the holder's. */
static void on_inherit(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	struct broker *b = c->broker;
	uint32_t version = wire_get_u32(r);
	int fd = dup(c->readable.fd);
	bool same = wire_complete(r) && version == MARGAY_MANIFEST_VERSION;

	if (fd < 0 || !same || !holder_serve(&b->holder, fd)) {
		LOG(b->boot->log, LOG_LEVEL_WARN, "a new master was refused",
		    LOG_STR("reason", same ? "the old one lives, or its possessions are not known"
					   : "it is of a version that does not fit"));
		client_reply(c, asked, same ? BROKER_UNKNOWN : BROKER_BAD, NULL);
		if (fd >= 0)
			close(fd);
	}
	client_close(c);
}

/* The same record again is a worker that lost the reply when it lost its connection. */
static enum broker_status client_create(struct client *c, const struct session_record *record)
{
	struct broker *b = c->broker;
	struct session *s = table_find(&b->table, &record->id);

	if (s) {
		struct session_record held;
		struct wire_reader r = {.p = s->record, .length = s->length};
		if (!session_record_get(&r, &held) || held.version != record->version ||
		    held.idle_timeout != record->idle_timeout ||
		    strcmp(held.route, record->route) != 0 ||
		    strcmp(held.upstream, record->upstream) != 0 ||
		    strcmp(held.upstream_session, record->upstream_session) != 0 ||
		    !span_equal(held.state, record->state))
			return BROKER_BAD;
		s->cached |= client_bit(c);
		return BROKER_OK;
	}
	if (table_count(&b->table) >= b->sessions_max ||
	    table_add(&b->table, record, clock_coarse(), &s) != 0)
		return BROKER_FULL;
	if (journal_create(&b->journal, s) != 0) {
		table_remove(&b->table, s);
		return BROKER_FULL;
	}
	s->cached = client_bit(c);
	METRIC_ADD(b->metrics, SESSIONS_CREATED, 1, 0);
	METRIC_SET(b->metrics, SESSIONS_ACTIVE, table_count(&b->table), 0);
	return BROKER_OK;
}

static void on_create(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	struct session_record record;
	enum broker_status status = BROKER_BAD;

	if (session_record_get(r, &record) && wire_complete(r) && record.idle_timeout > 0)
		status = client_create(c, &record);
	if (status == BROKER_FULL)
		METRIC_ADD(c->broker->metrics, SESSIONS_REFUSED, 1, 0);
	client_reply(c, asked, status, NULL);
}

/* The record changes as a whole: whoever has cached it must ask again. */
static enum broker_status client_update(
    struct client *c, const struct session_record *record, uint64_t *caching)
{
	struct broker *b = c->broker;
	struct session *s = table_find(&b->table, &record->id);

	if (!s)
		return BROKER_UNKNOWN;
	struct session_record held;
	struct wire_reader r = {.p = s->record, .length = s->length};
	if (!session_record_get(&r, &held))
		return BROKER_BAD;
	/* The same again is a worker that lost the reply when it lost its connection. */
	if (held.changes == record->changes && span_equal(held.state, record->state))
		return BROKER_OK;
	if (held.changes + 1 != record->changes)
		return BROKER_STALE;
	*caching = clients_caching(b, s, c);
	journal_forget(&b->journal, s);
	table_remove(&b->table, s);
	if (table_add(&b->table, record, clock_coarse(), &s) != 0 ||
	    journal_create(&b->journal, s) != 0)
		return BROKER_FULL;
	s->cached = client_bit(c);
	return BROKER_OK;
}

/* Those who have it in their caches drop what was there before; the reply waits until nobody can
 * use that any more. */
static void invalidate_and_reply(
    struct client *c, const struct frame *asked, const struct session_id *id, uint64_t caching)
{
	struct broker *b = c->broker;
	uint32_t change = caching ? change_begin(&b->changes, c, asked, caching) : 0;

	clients_invalidate(b, id, caching, change);
	if (change == 0)
		client_reply(c, asked, BROKER_OK, NULL);
}

static void on_update(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	struct session_record record = {0};
	enum broker_status status = BROKER_BAD;
	uint64_t caching = 0;

	if (session_record_get(r, &record) && wire_complete(r) && record.idle_timeout > 0)
		status = client_update(c, &record, &caching);
	if (status == BROKER_OK) {
		invalidate_and_reply(c, asked, &record.id, caching);
		return;
	}
	clients_invalidate(
	    c->broker, &record.id, caching, 0); /* it may be lost for want of memory */
	client_reply(c, asked, status, NULL);
}

static void on_get(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	struct session_id id;

	wire_get_bytes(r, id.bytes, sizeof(id.bytes));
	if (!wire_complete(r)) {
		client_reply(c, asked, BROKER_BAD, NULL);
		return;
	}
	struct session *s = table_find(&c->broker->table, &id);
	if (s) {
		s->cached |= client_bit(c);
		table_touch(s, clock_coarse());
	}
	client_reply(c, asked, s ? BROKER_OK : BROKER_UNKNOWN, s);
}

static void on_touch(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	(void)asked;
	for (unsigned count = wire_get_u16(r); count > 0 && !r->error; count--) {
		struct session_id id;
		wire_get_bytes(r, id.bytes, sizeof(id.bytes));
		struct session *s = r->error ? NULL : table_find(&c->broker->table, &id);
		if (s)
			table_touch(s, clock_coarse());
	}
	if (!wire_complete(r))
		client_close(c);
}

static void on_end(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	struct broker *b = c->broker;
	struct session_id id;

	wire_get_bytes(r, id.bytes, sizeof(id.bytes));
	uint8_t reason = wire_get_u8(r);
	if (!wire_complete(r) || reason >= METRIC_END_COUNT) {
		client_reply(c, asked, BROKER_BAD, NULL);
		return;
	}
	struct session *s = table_find(&b->table, &id);
	if (!s) {
		client_reply(c, asked, BROKER_UNKNOWN, NULL);
		return;
	}
	if (journal_end(&b->journal, s) != 0)
		LOG(b->boot->log, LOG_LEVEL_ERROR, "session journal is full",
		    LOG_STR("remedy", "raise the memory limit or lower sessions.max"));
	struct session_id ended = session_key(s);
	uint64_t caching = clients_caching(b, s, c);
	table_remove(&b->table, s);
	METRIC_ADD(b->metrics, SESSIONS_ENDED, 1, .a = reason);
	METRIC_SET(b->metrics, SESSIONS_ACTIVE, table_count(&b->table), 0);
	invalidate_and_reply(c, asked, &ended, caching);
}

static void on_box(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	struct mail *m = &c->broker->mail;
	struct mail_box_id id;
	int error = 0;

	wire_get_bytes(r, id.bytes, sizeof(id.bytes));
	if (!wire_complete(r))
		error = -EPROTO;
	else if (asked->type == BROKER_BOX_CLOSE)
		mail_box_close(m, &id, c);
	else
		error = mail_box_open(m, &id, c);
	client_reply(c, asked, error ? BROKER_BAD : BROKER_OK, NULL);
	if (error)
		LOG(c->broker->boot->log, LOG_LEVEL_WARN, "a box could not be opened",
		    LOG_ERRNO(-error));
}

/* A worker that is far behind gets no mail: its sender learns that, and nobody else is held up. */
static enum broker_status deliver(
    struct client *to, const struct frame *asked, const struct wire_reader *r, int fd)
{
	struct frame push = {.type = BROKER_MAIL, .length = asked->length};

	if (!to || !to->greeted)
		return BROKER_UNKNOWN;
	if (to->queued + asked->length >= CLIENT_QUEUE_MAX)
		return BROKER_FULL;
	client_pass(to, &push, r->p, fd);
	return to->closed ? BROKER_UNKNOWN : BROKER_OK;
}

static void on_mail(struct client *c, const struct frame *asked, struct wire_reader *r)
{
	static const struct mail_box_id everybody = {{0}};
	struct broker *b = c->broker;
	struct mail_box_id id;

	wire_get_bytes(r, id.bytes, sizeof(id.bytes));
	wire_get_u8(r); /* kind */
	if (r->error) {
		client_close(c);
		return;
	}
	if (memcmp(&id, &everybody, sizeof(id)) != 0) {
		struct client *owner = mail_box_owner(&b->mail, &id);
		client_reply(c, asked, deliver(owner, asked, r, c->passed), NULL);
		return;
	}
	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		if (b->clients[i] != c)
			deliver(b->clients[i], asked, r, c->passed);
	}
	client_reply(c, asked, BROKER_OK, NULL);
}

static const struct client_request {
	enum broker_type type;
	void (*handle)(struct client *c, const struct frame *asked, struct wire_reader *r);
} requests[] = {
    {BROKER_HELLO, on_hello},
    {BROKER_INHERIT, on_inherit},
    {BROKER_CREATE, on_create},
    {BROKER_UPDATE, on_update},
    {BROKER_GET, on_get},
    {BROKER_TOUCH, on_touch},
    {BROKER_END, on_end},
    {BROKER_BOX_OPEN, on_box},
    {BROKER_BOX_CLOSE, on_box},
    {BROKER_MAIL, on_mail},
    {BROKER_INVALIDATE, on_invalidated},
};

static void client_request(struct client *c, const struct frame *asked, const char *payload)
{
	struct wire_reader r = {.p = payload, .length = asked->length};

	if ((asked->type == BROKER_HELLO || asked->type == BROKER_INHERIT) == c->greeted) {
		client_close(c);
		return;
	}
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (requests[i].type == asked->type) {
			requests[i].handle(c, asked, &r);
			return;
		}
	}
	client_reply(c, asked, BROKER_BAD, NULL);
}

static void client_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct client *c = container_of(w, struct client, readable);
	char payload[FRAME_PAYLOAD_MAX];
	struct frame header;

	turn_enter("worker");
	(void)loop;
	(void)events;
	for (int i = 0; i < BROKER_FRAME_BUDGET && !c->closed && ev_is_active(w); i++) {
		int got = frame_receive(w->fd, &header, payload, &c->passed);
		if (got == -EAGAIN)
			return;
		if (got == 1)
			client_request(c, &header, payload);
		else
			client_close(c);
		if (c->passed >= 0)
			close(c->passed);
	}
}

struct client *client_add(struct broker *b, unsigned index, int fd, bool greeted)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->broker = b;
	c->index = index;
	c->greeted = greeted;
	TAILQ_INIT(&c->queue);
	ev_io_init(&c->readable, client_readable, fd, EV_READ);
	ev_io_init(&c->writable, client_writable, fd, EV_WRITE);
	ev_io_start(b->loop, &c->readable);
	b->clients[index] = c;
	return c;
}

void client_open(struct broker *b, int fd)
{
	unsigned index = 0;

	while (index < BROKER_CLIENTS && b->clients[index])
		index++;
	bool trusted = credentials_trusted(fd);
	if (trusted && index < BROKER_CLIENTS && client_add(b, index, fd, false))
		return;
	LOG(b->boot->log, LOG_LEVEL_WARN, "broker refused a connection",
	    LOG_STR("reason", trusted ? "too many" : "foreign user"));
	close(fd);
}

/* --- from broker to broker
 * -------------------------------------------------------------------------- */

int32_t client_index(const struct client *c)
{
	return c ? (int32_t)c->index : -1;
}

void clients_leave(const struct broker *b, struct handover *h)
{
	const struct client_frame *f;

	for (unsigned i = 0; i < BROKER_CLIENTS; i++) {
		const struct client *c = b->clients[i];
		if (!c)
			continue;
		struct estate_client head = {.index = client_index(c),
		    .fd = handover_fd(h, c->readable.fd),
		    .protocol = BROKER_PROTOCOL,
		    .greeted = c->greeted};
		handover_put(h, ESTATE_CLIENT, &head, sizeof(head), NULL, 0);
		TAILQ_FOREACH (f, &c->queue, link) {
			struct estate_frame row = {.header = f->header,
			    .client = client_index(c),
			    .fd = handover_fd(h, f->fd)};
			handover_put(h, ESTATE_FRAME, &row, sizeof(row),
			    &(struct span){f->payload, f->header.length}, 1);
		}
	}
}
