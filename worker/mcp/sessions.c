/*
 * sessions: see sessions.h.
 *
 * Whatever is asked of the broker is a `question`: it waits to be sent, then for its reply, and is
 * sent again after a reconnect. CREATE, GET and END may be repeated without harm. A question
 * outlives the call that asked it, so that a cancelled call costs nothing but a reply nobody reads.
 */
#include "worker/mcp/sessions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/turn.h"
#include "worker/mcp/session_cache.h"
#include "worker/mcp/sessions_question.h"

enum { REPLY_BUDGET = 64 };

static const double call_patience = 2; /* seconds */
static const double touch_every = 1;   /* seconds */
static const double broker_grace =
    10; /* seconds that the cache serves alone while the broker is away */

static void broker_connect(struct sessions *s);

void sessions_forget(struct question *q)
{
	struct sessions *s = q->sessions;

	timeout_disarm(&s->patience, &q->timeout);
	if (!q->parcel.held)
		TAILQ_REMOVE(q->sent ? &s->asked : &s->unsent, q, link);
	HASH_DEL(s->by_request, q);
	*q->count -= 1;
	free(q->record);
	parcel_release(&q->parcel);
	s->mail_bytes -= q->mail_length;
	free(q);
}

void sessions_answer(struct question *q, int status, const struct session_record *record)
{
	struct session_call *call = q->call;

	sessions_forget(q);
	if (!call)
		return;
	call->request = 0;
	call->done(call, status, record);
}

static void update_events(struct sessions *s)
{
	int events = EV_READ | (s->state == BROKER_HERE && !TAILQ_EMPTY(&s->unsent) ? EV_WRITE : 0);

	if (s->state == BROKER_AWAY || (s->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(s->loop, &s->io);
	ev_io_set(&s->io, s->io.fd, events);
	ev_io_start(s->loop, &s->io);
}

static void broker_lost(struct sessions *s)
{
	struct question *q, *next;
	uint32_t random = 0;

	if (s->state == BROKER_AWAY)
		return;
	s->state = BROKER_AWAY;
	s->lost_at = clock_coarse();
	ev_io_stop(s->loop, &s->io);
	close(s->io.fd);
	/* Asked again, in the order they were asked first. */
	TAILQ_FOREACH_REVERSE_SAFE(q, &s->asked, question_list, link, next)
	{
		TAILQ_REMOVE(&s->asked, q, link);
		q->sent = false;
		TAILQ_INSERT_HEAD(&s->unsent, q, link);
	}
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)getpid();
	double wait = backoff_failed(&s->backoff, s->lost_at - s->connected_at, random);
	ev_timer_set(&s->reconnect, wait, 0);
	ev_timer_start(s->loop, &s->reconnect);
}

static int send_frame(
    struct sessions *s, uint16_t type, uint32_t request, const struct wire_writer *w, int fd)
{
	struct frame frame = {.type = type, .request = request, .length = (uint32_t)w->length};

	if (w->error)
		return -EMSGSIZE;
	return frame_send(s->io.fd, &frame, w->p, fd);
}

static int question_send(struct sessions *s, struct question *q)
{
	struct wire_writer w = {.p = s->payload, .capacity = sizeof(s->payload)};

	if (q->record) {
		session_record_put(&w, q->record);
	} else if (q->type == BROKER_BOX_OPEN || q->type == BROKER_BOX_CLOSE) {
		wire_put_bytes(&w, q->parcel.box.bytes, sizeof(q->parcel.box.bytes));
	} else if (q->type == BROKER_MAIL) {
		struct span text = buffer_span(&q->parcel.text);
		wire_put_bytes(&w, q->parcel.box.bytes, sizeof(q->parcel.box.bytes));
		wire_put_u8(&w, q->kind);
		wire_put_bytes(&w, text.p, text.n);
	} else {
		wire_put_bytes(&w, q->id.bytes, sizeof(q->id.bytes));
		if (q->type == BROKER_END)
			wire_put_u8(&w, q->reason);
	}
	return send_frame(s, q->type, q->request, &w, q->parcel.fd);
}

void sessions_send(struct sessions *s)
{
	struct question *q;

	while (s->state == BROKER_HERE && (q = TAILQ_FIRST(&s->unsent))) {
		int error = question_send(s, q);
		if (error == -EAGAIN)
			break;
		if (error) {
			broker_lost(s);
			return;
		}
		TAILQ_REMOVE(&s->unsent, q, link);
		q->sent = true;
		TAILQ_INSERT_TAIL(&s->asked, q, link);
	}
	update_events(s);
}

struct question *sessions_ask(
    struct sessions *s, uint16_t type, const struct session_id *id, struct session_call *call)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->sessions = s;
	q->type = type;
	q->id = *id;
	q->call = call;
	do
		q->request = ++s->next_request;
	while (q->request == 0);
	HASH_ADD(hh, s->by_request, request, sizeof(q->request), q);
	TAILQ_INSERT_TAIL(&s->unsent, q, link);
	parcel_init(&q->parcel);
	q->count =
	    (call && type != BROKER_END) || type == BROKER_MAIL ? &s->call_count : &s->end_count;
	*q->count += 1;
	if (call) {
		call->request = q->request;
		timeout_arm(&s->patience, &q->timeout);
	}
	return q;
}

static void on_patience_over(struct timeout_queue *queue, struct timeout *timeout)
{
	struct question *q = container_of(timeout, struct question, timeout);
	struct session_call *call = q->call;

	(void)queue;
	if (q->type != BROKER_END || !call) {
		sessions_answer(q, -ETIMEDOUT, NULL);
		return;
	}
	/* Who asked for it waits no longer, but the session is to end. */
	q->call = NULL;
	call->request = 0;
	call->done(call, -ETIMEDOUT, NULL);
}

static int status_to_errno(uint32_t status)
{
	static const int errors[] = {[BROKER_OK] = 0,
	    [BROKER_UNKNOWN] = -ENOENT,
	    [BROKER_FULL] = -ENOSPC,
	    [BROKER_BAD] = -EPROTO,
	    [BROKER_STALE] = -EAGAIN};

	return status < sizeof(errors) / sizeof(errors[0]) ? errors[status] : -EPROTO;
}

static void on_greeted(struct sessions *s, uint32_t status)
{
	if (status != BROKER_OK) {
		LOG(s->boot->log, LOG_LEVEL_ERROR, "the broker refused this worker",
		    LOG_UINT("status", status));
		broker_lost(s);
		return;
	}
	if (s->epoch > 0)
		METRIC_ADD(s->metrics, BROKER_RECONNECTS, 1, 0);
	s->state = BROKER_HERE;
	if (s->epoch++ > 0 && s->reopen)
		s->reopen(s->mail_context);
	s->connected_at = clock_coarse();
	if (s->ready) {
		void (*ready)(void *) = s->ready;
		s->ready = NULL;
		ready(s->ready_context);
	}
	sessions_send(s);
}

static void on_reply(struct sessions *s, const struct frame *frame, struct wire_reader *r)
{
	struct session_record record;
	struct question *q;
	int status = status_to_errno(wire_get_u32(r));

	HASH_FIND(hh, s->by_request, &frame->request, sizeof(frame->request), q);
	if (!q)
		return;
	if (q->type == BROKER_GET && status == 0 && !session_record_get(r, &record))
		status = -EPROTO;
	if (q->type == BROKER_GET && status == 0)
		session_cache_put(s->cache, &record, s->epoch);
	else if (status == -ENOENT || status == -EAGAIN)
		session_cache_drop(s->cache, &q->id);
	else if (q->record && status == 0)
		session_cache_put(s->cache, q->record, s->epoch);
	sessions_answer(q, status, q->type == BROKER_GET && status == 0 ? &record : NULL);
}

static void on_push(struct sessions *s, const struct frame *frame, struct wire_reader *r, int fd)
{
	struct session_record record;
	struct session_id id;

	if (frame->type == BROKER_INVALIDATE) {
		wire_get_bytes(r, id.bytes, sizeof(id.bytes));
		if (r->error)
			return;
		session_cache_drop(s->cache, &id);
		if (s->invalidated)
			s->invalidated(s->reap_context, &id);
		struct wire_writer nothing = {0};
		/* Unheard, it is waited for a moment and not for ever. */
		if (frame->request != 0 &&
		    send_frame(s, BROKER_INVALIDATE, frame->request, &nothing, -1))
			LOG_TEXT(s->boot->log, LOG_LEVEL_WARN, "the broker waits for us in vain");
	} else if (frame->type == BROKER_REAP && session_record_get(r, &record)) {
		session_cache_drop(s->cache, &record.id);
		s->reap(s->reap_context, &record);
	} else if (frame->type == BROKER_MAIL) {
		sessions_take_mail(s, r, fd);
	}
}

static void on_frame(struct sessions *s, const struct frame *frame, int fd)
{
	struct wire_reader r = {.p = s->payload, .length = frame->length};

	if (!(frame->flags & FRAME_REPLY))
		on_push(s, frame, &r, fd);
	else if (frame->type == BROKER_HELLO)
		on_greeted(s, wire_get_u32(&r));
	else
		on_reply(s, frame, &r);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct sessions *s = container_of(io, struct sessions, io);

	turn_enter("broker");
	(void)loop;
	for (int budget = REPLY_BUDGET; (events & EV_READ) && budget > 0 && s->state != BROKER_AWAY;
	     budget--) {
		struct frame frame;
		int fd = -1;
		int status = frame_receive(io->fd, &frame, s->payload, &fd);
		if (status == -EAGAIN)
			break;
		if (status <= 0)
			broker_lost(s);
		else
			on_frame(s, &frame, fd);
		if (fd >= 0)
			close(fd);
	}
	if (s->state == BROKER_HERE)
		sessions_send(s);
}

static int greet(struct sessions *s)
{
	char hello[16];
	struct wire_writer w = {.p = hello, .capacity = sizeof(hello)};

	wire_put_u16(&w, BROKER_PROTOCOL);
	wire_put_u16(&w, ROLE_WORKER);
	wire_put_u32(&w, s->boot->generation);
	wire_put_u32(&w, s->boot->number);
	return send_frame(s, BROKER_HELLO, ++s->next_request, &w, -1);
}

static void broker_connect(struct sessions *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, s->boot->broker_path, sizeof(address.sun_path) - 1);
	s->state = BROKER_GREETING;
	s->connected_at = clock_coarse();
	ev_io_init(&s->io, on_io, fd, EV_READ);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || greet(s)) {
		broker_lost(s);
		return;
	}
	ev_io_start(s->loop, &s->io);
}

static void on_reconnect(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("broker reconnect");
	(void)loop;
	(void)events;
	broker_connect(container_of(timer, struct sessions, reconnect));
}

static void send_touches(struct sessions *s)
{
	struct wire_writer w = {.p = s->payload, .capacity = sizeof(s->payload)};

	if (s->touch_count == 0 || s->state != BROKER_HERE)
		return;
	wire_put_u16(&w, (uint16_t)s->touch_count);
	for (unsigned i = 0; i < s->touch_count; i++)
		wire_put_bytes(&w, s->touches[i].bytes, sizeof(s->touches[i].bytes));
	int error = send_frame(s, BROKER_TOUCH, 0, &w, -1);
	if (error == -EAGAIN)
		return;
	s->touch_count = 0;
	if (error)
		broker_lost(s);
}

static void on_touch_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("session touch");
	(void)loop;
	(void)events;
	struct sessions *s = container_of(timer, struct sessions, touch_timer);
	s->seconds++;
	send_touches(s);
}

int sessions_open(struct ev_loop *loop, const struct role_boot *boot, struct metrics_slot *metrics,
    session_reaper *reap, void *context, struct sessions **out)
{
	struct sessions *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	if (session_cache_open(&s->cache)) {
		free(s);
		return -ENOMEM;
	}
	s->loop = loop;
	s->boot = boot;
	s->metrics = metrics;
	s->reap = reap;
	s->reap_context = context;
	s->backoff = BACKOFF_CONNECT;
	s->seconds = 1;
	TAILQ_INIT(&s->unsent);
	TAILQ_INIT(&s->asked);
	sessions_mail_init(s);
	timeout_queue_init(&s->patience, loop, call_patience, on_patience_over);
	ev_timer_init(&s->reconnect, on_reconnect, 0, 0);
	ev_timer_init(&s->touch_timer, on_touch_timer, touch_every, touch_every);
	ev_timer_start(loop, &s->touch_timer);
	broker_connect(s);
	*out = s;
	return 0;
}

void sessions_close(struct sessions *s)
{
	struct question *q, *next;

	send_touches(s);
	parcels_stop(&s->held);
	mappings_close(&s->released);
	HASH_ITER (hh, s->by_request, q, next)
		sessions_forget(q);
	if (s->state != BROKER_AWAY) {
		ev_io_stop(s->loop, &s->io);
		close(s->io.fd);
	}
	timeout_queue_stop(&s->patience);
	ev_timer_stop(s->loop, &s->reconnect);
	ev_timer_stop(s->loop, &s->touch_timer);
	session_cache_close(s->cache);
	free(s);
}

bool sessions_connected(const struct sessions *s)
{
	return s->state == BROKER_HERE;
}

void sessions_on_ready(struct sessions *s, void (*ready)(void *context), void *context)
{
	s->ready = ready;
	s->ready_context = context;
}

/* What the cache says of it may be believed: fetched under this connection, or the broker was lost
 * only just now. */
static bool is_trusted(const struct sessions *s, const struct session_entry *entry)
{
	if (s->state == BROKER_HERE)
		return session_entry_epoch(entry) == s->epoch;
	return session_entry_epoch(entry) == s->epoch && clock_coarse() - s->lost_at < broker_grace;
}

bool sessions_parse(struct sessions *s, struct span text, struct session_id *out)
{
	uint8_t mac[SESSION_MAC];

	if (!session_id_decode(text, out, mac))
		return false;
	struct session_entry *entry = session_cache_find(s->cache, out);
	if (entry && session_entry_has_mac(entry, mac))
		return true;
	if (!session_id_is_ours(out, mac, s->boot->session_key))
		return false;
	if (entry)
		session_entry_keep_mac(entry, mac);
	return true;
}

const struct session_record *sessions_get(
    struct sessions *s, const struct session_id *id, struct session_call *call, int *error)
{
	struct session_entry *entry = session_cache_find(s->cache, id);

	if (entry && is_trusted(s, entry)) {
		METRIC_ADD(s->metrics, SESSION_CACHE_HITS, 1, 0);
		if (session_entry_touch(entry, s->seconds))
			sessions_touch(s, id);
		return session_entry_expand(s->cache, entry);
	}
	METRIC_ADD(s->metrics, SESSION_CACHE_MISSES, 1, 0);
	if (s->call_count >= QUESTIONS_MAX || !sessions_ask(s, BROKER_GET, id, call)) {
		*error = -ENOBUFS;
		return NULL;
	}
	sessions_send(s);
	return NULL;
}

static int ask_with_record(struct sessions *s, enum broker_type type,
    const struct session_record *record, struct session_call *call)
{
	struct session_record *copy = malloc(sizeof(*copy) + record->state.n);
	struct question *q;

	if (!copy || s->call_count >= QUESTIONS_MAX ||
	    !(q = sessions_ask(s, (uint16_t)type, &record->id, call))) {
		free(copy);
		return -ENOBUFS;
	}
	*copy = *record;
	copy->state.p = (char *)(copy + 1);
	if (record->state.n > 0)
		memcpy(copy + 1, record->state.p, record->state.n);
	q->record = copy;
	sessions_send(s);
	return 0;
}

int sessions_create(
    struct sessions *s, const struct session_record *record, struct session_call *call)
{
	return ask_with_record(s, BROKER_CREATE, record, call);
}

int sessions_update(
    struct sessions *s, const struct session_record *record, struct session_call *call)
{
	return ask_with_record(s, BROKER_UPDATE, record, call);
}

int sessions_end(struct sessions *s, const struct session_id *id, enum metric_end reason,
    struct session_call *call)
{
	struct question *q;

	session_cache_drop(s->cache, id);
	if (s->end_count >= ENDS_MAX || !(q = sessions_ask(s, BROKER_END, id, call)))
		return -ENOBUFS;
	q->reason = (uint8_t)reason;
	sessions_send(s);
	return 0;
}

void sessions_on_invalidate(struct sessions *s, session_invalidated *invalidated)
{
	s->invalidated = invalidated;
}

void sessions_touch(struct sessions *s, const struct session_id *id)
{
	if (s->touch_count == TOUCHES_MAX)
		send_touches(s);
	if (s->touch_count < TOUCHES_MAX)
		s->touches[s->touch_count++] = *id;
}

void session_call_cancel(struct sessions *s, struct session_call *call)
{
	struct question *q;

	if (call->request == 0)
		return;
	HASH_FIND(hh, s->by_request, &call->request, sizeof(call->request), q);
	if (q)
		q->call = NULL;
	call->request = 0;
}
