/*
 * sessions: a worker's end of the broker, against a broker that the test plays itself.
 *
 * The other end of the socket is in the test's hands, so that silence, death and invalidation
 * happen when it says.
 */
#include "worker/mcp/sessions.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/ipc/frame.h"
#include "tests/unit/worker/stage.h"

static const double patience = 8;

struct play {
	struct stage stage;
	struct sessions *sessions;
	char dir[64], path[96];
	int listener, broker; /* the broker's listening socket and its connection */
	bool ready;
	struct session_record reaped;
	struct frame frame; /* the last one that the broker got */
	char payload[FRAME_PAYLOAD_MAX];
	int fd;              /* that came with it, or -1 */
	struct mapping kept; /* of mail that came */
	bool keeps, came, all_sent;
};

struct asker {
	struct session_call call;
	bool done;
	int status;
	struct session_record record;
};

static void on_done(struct session_call *call, int status, const struct session_record *record)
{
	struct asker *a = container_of(call, struct asker, call);

	cr_assert_not(a->done, "a call is answered once");
	a->done = true;
	a->status = status;
	if (record)
		a->record = *record;
}

static void on_reap(void *context, const struct session_record *record)
{
	((struct play *)context)->reaped = *record;
}

static void on_ready(void *context)
{
	((struct play *)context)->ready = true;
}

static void turn(struct play *p, double started)
{
	struct pollfd fds[2] = {
	    {.fd = p->listener, .events = POLLIN}, {.fd = p->broker, .events = POLLIN}};

	cr_assert_lt(ev_time() - started, patience, "waited in vain");
	ev_run(p->stage.worker->loop, EVRUN_NOWAIT);
	poll(fds, 2, 1);
}

/* The next frame from the worker. */
static void broker_receive(struct play *p)
{
	int status;

	for (double started = ev_time();
	     (status = frame_receive(p->broker, &p->frame, p->payload, &p->fd)) == -EAGAIN;)
		turn(p, started);
	cr_assert_eq(status, 1);
}

static void broker_send(
    struct play *p, uint16_t type, uint32_t request, uint16_t flags, const struct wire_writer *w)
{
	struct frame frame = {
	    .type = type, .request = request, .flags = flags, .length = (uint32_t)w->length};

	cr_assert_eq(frame_send(p->broker, &frame, w->p, -1), 0);
}

static void broker_reply(struct play *p, uint32_t status, const struct session_record *record)
{
	char bytes[2048];
	struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};

	wire_put_u32(&w, status);
	if (record)
		session_record_put(&w, record);
	broker_send(p, p->frame.type, p->frame.request, FRAME_REPLY, &w);
}

/* A worker connected and was greeted. */
static void broker_greet(struct play *p)
{
	for (double started = ev_time();
	     (p->broker = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0;)
		turn(p, started);
	broker_receive(p);
	cr_assert_eq(p->frame.type, BROKER_HELLO);
	broker_reply(p, BROKER_OK, NULL);
}

static void play_open(struct play *p)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	stage_open(&p->stage);
	p->broker = -1;
	p->ready = false;
	strcpy(p->dir, "/tmp/margay-sessions-XXXXXX");
	cr_assert_not_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/broker.sock", p->dir);
	memcpy(address.sun_path, p->path, strlen(p->path) + 1);
	p->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(p->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(p->listener, 4), 0);
	p->stage.boot.broker_path = p->path;
	cr_assert_eq(sessions_open(p->stage.worker->loop, &p->stage.boot, p->stage.worker->metrics,
			 on_reap, p, &p->sessions),
	    0);
	sessions_on_ready(p->sessions, on_ready, p);
	broker_greet(p);
	for (double started = ev_time(); !p->ready;)
		turn(p, started);
}

static void play_close(struct play *p)
{
	sessions_close(p->sessions);
	close(p->broker);
	close(p->listener);
	unlink(p->path);
	rmdir(p->dir);
	stage_close(&p->stage);
}

static void until(struct play *p, const bool *flag)
{
	for (double started = ev_time(); !*flag;)
		turn(p, started);
}

static struct session_record record_of(uint8_t number)
{
	return (struct session_record){.id = {{number}},
	    .version = 2,
	    .idle_timeout = 60,
	    .route = "/mcp",
	    .upstream = "up",
	    .upstream_session = "secret"};
}

static const struct session_record *get(
    struct play *p, const struct session_record *r, struct asker *a)
{
	int error = 0;

	*a = (struct asker){.call.done = on_done};
	const struct session_record *found = sessions_get(p->sessions, &r->id, &a->call, &error);
	cr_assert_eq(error, 0);
	cr_assert_not(a->done, "never from inside the call");
	return found;
}

/* Ask the broker, which knows the session. */
static void fetch(struct play *p, const struct session_record *r)
{
	struct asker a;

	cr_assert_null(get(p, r, &a));
	broker_receive(p);
	cr_assert_eq(p->frame.type, BROKER_GET);
	broker_reply(p, BROKER_OK, r);
	until(p, &a.done);
	cr_assert_eq(a.status, 0);
	cr_assert_str_eq(a.record.upstream_session, "secret");
}

static struct play play;

Test(sessions, asks_the_broker_once_and_then_its_cache)
{
	struct session_record r = record_of(1);
	struct asker a;

	play_open(&play);
	fetch(&play, &r);
	const struct session_record *cached = get(&play, &r, &a);
	cr_assert_not_null(cached);
	cr_assert_str_eq(cached->route, "/mcp");
	cr_assert_str_eq(cached->upstream, "up");
	cr_assert_str_eq(cached->upstream_session, "secret");
	cr_assert_eq(cached->version, 2);
	play_close(&play);
}

/* In each character that has bits of the HMAC, twice: it is not remembered, either. */
static void refuses_forgeries_of(const char *text)
{
	struct session_id id;
	char forged[SESSION_ID_TEXT + 1];

	for (size_t i = SESSION_ID_BYTES * 8 / 6; i < SESSION_ID_TEXT; i++) {
		memcpy(forged, text, sizeof(forged));
		forged[i] = forged[i] == 'A' ? 'Q' : 'A';
		for (int again = 0; again < 2; again++)
			cr_assert_not(
			    sessions_parse(play.sessions, span_of(forged), &id), "%zu", i);
	}
}

Test(sessions, a_forged_id_is_refused_also_when_the_right_one_is_remembered)
{
	struct session_record r = record_of(1);
	struct session_id id;
	char text[SESSION_ID_TEXT + 1];

	play_open(&play);
	session_id_format(&r.id, play.stage.boot.session_key, text);
	for (int cached = 0; cached < 2; cached++) {
		for (int again = 0; again < 2; again++) {
			refuses_forgeries_of(text);
			cr_assert(sessions_parse(play.sessions, span_of(text), &id));
			cr_assert_eq(memcmp(&id, &r.id, sizeof(id)), 0);
		}
		if (!cached)
			fetch(&play, &r);
	}
	play_close(&play);
}

Test(sessions, an_unknown_session_is_enoent)
{
	struct session_record r = record_of(1);
	struct asker a;

	play_open(&play);
	cr_assert_null(get(&play, &r, &a));
	broker_receive(&play);
	broker_reply(&play, BROKER_UNKNOWN, NULL);
	until(&play, &a.done);
	cr_assert_eq(a.status, -ENOENT);
	play_close(&play);
}

Test(sessions, what_was_created_is_cached_and_a_full_broker_is_enospc)
{
	static const struct {
		uint32_t status;
		int expected;
	} rows[] = {{BROKER_OK, 0}, {BROKER_FULL, -ENOSPC}};

	for (size_t i = 0; i < 2; i++) {
		struct session_record r = record_of(1);
		struct asker a = {.call.done = on_done};
		play_open(&play);
		cr_assert_eq(sessions_create(play.sessions, &r, &a.call), 0);
		broker_receive(&play);
		cr_assert_eq(play.frame.type, BROKER_CREATE);
		broker_reply(&play, rows[i].status, NULL);
		until(&play, &a.done);
		cr_assert_eq(a.status, rows[i].expected);
		cr_assert_eq(get(&play, &r, &a) != NULL, rows[i].status == BROKER_OK);
		play_close(&play);
	}
}

Test(sessions, an_invalidated_session_is_asked_for_again)
{
	struct session_record r = record_of(1);
	struct wire_writer w = {.p = (char[64]){0}, .capacity = 64};
	struct asker a;

	play_open(&play);
	fetch(&play, &r);
	wire_put_bytes(&w, r.id.bytes, sizeof(r.id.bytes));
	broker_send(&play, BROKER_INVALIDATE, 0, 0, &w);
	for (double started = ev_time(); get(&play, &r, &a);)
		turn(&play, started);
	play_close(&play);
}

Test(sessions, a_broker_that_died_is_asked_again_by_its_successor)
{
	struct session_record known = record_of(1), asked = record_of(2);
	struct asker a, b;

	play_open(&play);
	fetch(&play, &known);
	cr_assert_null(get(&play, &asked, &a));
	broker_receive(&play);
	close(play.broker); /* without an answer */
	for (double started = ev_time(); sessions_connected(play.sessions);)
		turn(&play, started);
	cr_assert_not_null(get(&play, &known, &b), "the cache serves alone for a while");
	broker_greet(&play);
	broker_receive(&play);
	cr_assert_eq(play.frame.type, BROKER_GET, "the question is repeated");
	broker_reply(&play, BROKER_OK, &asked);
	until(&play, &a.done);
	cr_assert_eq(a.status, 0);
	/* An invalidation may have been missed meanwhile. */
	cr_assert_null(get(&play, &known, &b));
	play_close(&play);
}

Test(sessions, the_end_of_a_session_is_repeated_until_the_broker_knows)
{
	struct session_record r = record_of(1);
	struct asker who = {.call.done = on_done};

	play_open(&play);
	fetch(&play, &r);
	cr_assert_eq(sessions_end(play.sessions, &r.id, METRIC_END_CLIENT, &who.call), 0);
	broker_receive(&play);
	cr_assert_eq(play.frame.type, BROKER_END);
	until(&play, &who.done);
	cr_assert_eq(who.status, -ETIMEDOUT, "it is not waited for as long as that takes");
	close(play.broker);
	for (double started = ev_time(); sessions_connected(play.sessions);)
		turn(&play, started);
	broker_greet(&play);
	broker_receive(&play);
	cr_assert_eq(play.frame.type, BROKER_END);
	broker_reply(&play, BROKER_UNKNOWN, NULL);
	play_close(&play);
}

Test(sessions, a_silent_broker_is_a_timeout_and_a_cancelled_call_is_silence)
{
	struct session_record one = record_of(1), two = record_of(2);
	struct asker waiting, cancelled;

	play_open(&play);
	cr_assert_null(get(&play, &one, &waiting));
	cr_assert_null(get(&play, &two, &cancelled));
	session_call_cancel(play.sessions, &cancelled.call);
	session_call_cancel(play.sessions, &cancelled.call);
	double started = ev_time();
	until(&play, &waiting.done);
	cr_assert_eq(waiting.status, -ETIMEDOUT);
	cr_assert_geq(ev_time() - started, 1.5);
	cr_assert_not(cancelled.done);
	play_close(&play);
}

Test(sessions, waiting_calls_are_bounded)
{
	struct session_record r = record_of(1);
	static struct asker askers[1001];
	int error = 0;

	play_open(&play);
	for (int i = 0; i < 1000; i++) {
		askers[i] = (struct asker){.call.done = on_done};
		r.id.bytes[1] = (uint8_t)i;
		r.id.bytes[2] = (uint8_t)(i >> 8);
		cr_assert_null(sessions_get(play.sessions, &r.id, &askers[i].call, &error));
		cr_assert_eq(error, 0, "%d", i);
	}
	r.id.bytes[3] = 1;
	cr_assert_null(sessions_get(play.sessions, &r.id, &askers[1000].call, &error));
	cr_assert_eq(error, -ENOBUFS);
	play_close(&play);
}

Test(sessions, touches_are_batched_and_each_session_is_in_once)
{
	struct session_record r = record_of(1);
	struct asker a;

	play_open(&play);
	fetch(&play, &r);
	for (int i = 0; i < 100; i++)
		cr_assert_not_null(get(&play, &r, &a));
	broker_receive(&play);
	cr_assert_eq(play.frame.type, BROKER_TOUCH);
	struct wire_reader reader = {.p = play.payload, .length = play.frame.length};
	cr_assert_eq(wire_get_u16(&reader), 1);
	play_close(&play);
}

Test(sessions, an_expired_session_is_handed_over_to_be_ended_upstream)
{
	struct session_record r = record_of(9);
	char bytes[2048];
	struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};

	play_open(&play);
	session_record_put(&w, &r);
	broker_send(&play, BROKER_REAP, 0, 0, &w);
	for (double started = ev_time(); play.reaped.id.bytes[0] != 9;)
		turn(&play, started);
	cr_assert_str_eq(play.reaped.upstream_session, "secret");
	play_close(&play);
}

enum { LONG = 10 * 128 * 1024 + 1 }; /* bytes, to be written in eleven turns */

static const struct mail_box_id one_box = {{1}}, other_box = {{2}};

static char byte_at(size_t i)
{
	return (char)('a' + i % 23);
}

static struct buffer long_text(void)
{
	struct buffer text = {0};

	cr_assert_eq(buffer_reserve(&text, LONG, LONG), 0);
	for (; text.tail < LONG; text.tail++)
		text.data[text.tail] = byte_at(text.tail);
	return text;
}

static void mail_long(const struct mail_box_id *box, struct asker *a)
{
	struct buffer text = long_text();

	*a = (struct asker){.call.done = on_done};
	cr_assert_eq(sessions_mail_long(play.sessions, box, 7, &text, &a->call), 0);
	cr_assert_null(text.data, "it is taken over");
}

static void mail_short(const struct mail_box_id *box, const char *text)
{
	cr_assert_eq(sessions_mail(play.sessions, box, 8, span_of(text), NULL), 0);
}

/* The next thing that the broker hears is about this box, and says that. */
static void receives(uint16_t type, const struct mail_box_id *box, const char *text)
{
	broker_receive(&play);
	cr_assert_eq(play.frame.type, type, "%u", play.frame.type);
	cr_assert_eq(memcmp(play.payload, box, sizeof(*box)), 0);
	cr_assert_eq(play.fd, -1);
	if (text)
		cr_assert_eq(memcmp(play.payload + sizeof(*box) + 1, text, strlen(text)), 0);
}

static void receives_long(const struct mail_box_id *box)
{
	broker_receive(&play);
	cr_assert_eq(play.frame.type, BROKER_MAIL);
	cr_assert_eq(memcmp(play.payload, box, sizeof(*box)), 0);
	cr_assert_eq(play.payload[sizeof(*box)], 7);
	cr_assert_geq(play.fd, 0);
	char *text = malloc(LONG + 1);
	cr_assert_eq(pread(play.fd, text, LONG + 1, 0), LONG);
	for (size_t i = 0; i < LONG; i++)
		cr_assert_eq(text[i], byte_at(i), "%zu", i);
	free(text);
	close(play.fd);
}

Test(sessions, long_mail_is_sent_in_later_turns_and_nothing_for_its_box_overtakes_it)
{
	struct session_record r = record_of(1);
	struct asker a, get_call;

	play_open(&play);
	mail_long(&one_box, &a);
	mail_short(&one_box, "after");
	mail_short(&other_box, "other");
	cr_assert_eq(sessions_box(play.sessions, &other_box, false, NULL), 0);
	cr_assert_null(get(&play, &r, &get_call));
	cr_assert(sessions_mailing(play.sessions));
	receives(BROKER_MAIL, &other_box, "other");
	broker_receive(&play);
	cr_assert_eq(play.frame.type, BROKER_GET, "other questions do not wait");
	receives_long(&one_box);
	broker_reply(&play, BROKER_OK, NULL);
	receives(BROKER_MAIL, &one_box, "after");
	receives(BROKER_BOX_CLOSE, &other_box, NULL);
	cr_assert_not(sessions_mailing(play.sessions));
	until(&play, &a.done);
	cr_assert_eq(a.status, 0);
	play_close(&play);
}

static void on_mail(void *context, const struct mail_box_id *box, unsigned kind,
    struct span payload, struct mapping *memory)
{
	struct play *p = context;

	cr_assert_eq(memcmp(box, &one_box, sizeof(*box)), 0);
	cr_assert_eq(kind, 7);
	cr_assert_eq(payload.n, LONG);
	cr_assert_eq(payload.p[LONG - 1], byte_at(LONG - 1));
	p->came = true;
	if (p->keeps)
		p->kept = mapping_take(memory);
}

static void on_all_sent(void *context)
{
	struct play *p = context;

	cr_assert_not(sessions_mailing(p->sessions));
	p->all_sent = true;
}

Test(sessions, no_turn_writes_more_of_long_mail_than_a_step)
{
	struct asker a;
	unsigned turns = 0;

	play_open(&play);
	sessions_on_mail(play.sessions, on_mail, NULL, on_all_sent, &play);
	mail_long(&one_box, &a);
	for (; sessions_mailing(play.sessions); turns++) {
		cr_assert_not(play.all_sent);
		ev_run(play.stage.worker->loop, EVRUN_NOWAIT);
	}
	cr_assert_geq(turns, 11);
	cr_assert(play.all_sent);
	play_close(&play);
}

Test(sessions, long_mail_outlives_its_sender_and_the_broker)
{
	struct asker cancelled;

	play_open(&play);
	mail_long(&one_box, &cancelled);
	session_call_cancel(play.sessions, &cancelled.call);
	close(play.broker);
	broker_greet(&play);
	receives_long(&one_box);
	/* It may have been lost with the broker: it is said again. */
	close(play.broker);
	broker_greet(&play);
	receives_long(&one_box);
	broker_reply(&play, BROKER_OK, NULL);
	turn(&play, ev_time());
	cr_assert_not(cancelled.done);
	play_close(&play);
}

Test(sessions, what_is_mailed_or_waits_behind_it_is_forgotten_at_the_end)
{
	struct asker a;

	play_open(&play);
	mail_long(&one_box, &a);
	mail_short(&one_box, "after");
	ev_run(play.stage.worker->loop, EVRUN_NOWAIT);
	play_close(&play);
	cr_assert_not(a.done);
}

Test(sessions, all_that_waits_to_be_mailed_is_bounded)
{
	struct asker a;

	play_open(&play);
	for (size_t sum = 0; sum + LONG <= MAIL_MAX; sum += LONG)
		mail_long(&one_box, &a);
	struct buffer text = long_text();
	a.call.request = 0;
	cr_assert_eq(sessions_mail_long(play.sessions, &one_box, 7, &text, &a.call), -ENOBUFS);
	cr_assert_eq(a.call.request, 0);
	cr_assert_eq(buffer_length(&text), LONG, "it is still the caller's");
	buffer_release(&text);
	play_close(&play);
}

Test(sessions, long_mail_that_comes_may_be_kept)
{
	struct buffer text = long_text();
	struct wire_writer w = {.p = (char[64]){0}, .capacity = 64};
	struct frame frame = {.type = BROKER_MAIL, .length = sizeof(one_box) + 1};

	play_open(&play);
	sessions_on_mail(play.sessions, on_mail, NULL, NULL, &play);
	wire_put_bytes(&w, one_box.bytes, sizeof(one_box.bytes));
	wire_put_u8(&w, 7);
	int fd = memfd_create("mail", MFD_CLOEXEC);
	cr_assert_eq(write(fd, text.data, LONG), LONG);
	for (int i = 0; i < 2; i++) {
		play.keeps = i == 1;
		play.came = false;
		cr_assert_eq(frame_send(play.broker, &frame, w.p, fd), 0);
		until(&play, &play.came);
	}
	close(fd);
	cr_assert_eq(play.kept.text.n, LONG);
	cr_assert_eq(memcmp(play.kept.text.p, text.data, LONG), 0);
	mapping_release(&play.kept);
	mapping_release(&play.kept);
	cr_assert_null(play.kept.text.p);
	buffer_release(&text);
	play_close(&play);
}
