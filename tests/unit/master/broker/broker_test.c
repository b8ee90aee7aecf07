/* broker: the real process on real sockets; a kill -9 loses no session. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/broker_proto.h"
#include "common/ipc/channel.h"
#include "common/ipc/frame.h"
#include "common/ipc/manifest.h"
#include "common/handover.h"

static struct config config = {.sessions = {.idle_timeout = 60, .max = 2}};
static struct role_boot boot = {.role = ROLE_BROKER, .config = &config};
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int channel;
static char payload[FRAME_PAYLOAD_MAX];
static struct frame header;

/* The next frame within 5 s; type 0 at end of file. */
static void receive(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	int passed;

	cr_assert_eq(poll(&ready, 1, 5000), 1);
	if (frame_receive(fd, &header, payload, &passed) != 1)
		header.type = 0;
}

static uint32_t ask(int fd, enum broker_type type, const struct wire_writer *w)
{
	struct frame f = {.type = (uint16_t)type, .request = 7, .length = (uint32_t)w->length};
	uint32_t status;

	cr_assert_eq(frame_send(fd, &f, w->p, -1), 0);
	receive(fd);
	cr_assert_eq(header.type, type);
	memcpy(&status, payload, sizeof(status));
	return status;
}

static pid_t start(void)
{
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
	boot.channel = ends[1];
	channel = ends[0];
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		_exit(broker_main(&boot));
	}
	close(ends[1]);
	receive(channel);
	cr_assert_eq(header.type, CHANNEL_READY);
	return pid;
}

static pid_t prepare(void)
{
	struct log_options options = {.level = LOG_LEVEL_ERROR, .file = "stderr"};

	cr_assert_eq(log_open(&options, "broker", &boot.log), 0);
	cr_assert_eq(metrics_create(&boot.metrics), 0);
	boot.metrics_slot = metrics_slot_take(boot.metrics, METRIC_SLOT_BROKER, 0, 1);
	for (int i = 0; i < JOURNAL_COUNT; i++)
		boot.journal[i] = memfd_create("journal", MFD_CLOEXEC);
	snprintf(address.sun_path + 1, 64, "margay-broker-test-%d", (int)getpid());
	boot.broker_listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
	cr_assert_eq(bind(boot.broker_listener, (void *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(boot.broker_listener, 16), 0);
	return start();
}

static int hello(uint16_t protocol, uint32_t status)
{
	char bytes[16];
	struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	cr_assert_eq(connect(fd, (void *)&address, sizeof(address)), 0);
	wire_put_u16(&w, protocol);
	wire_put_u16(&w, ROLE_WORKER);
	wire_put_u32(&w, 1);
	wire_put_u32(&w, 0);
	cr_assert_eq(ask(fd, BROKER_HELLO, &w), status);
	return fd;
}

static uint32_t create(int fd, uint8_t number, uint32_t idle_timeout)
{
	struct session_record r = {.id = {{number}}, .idle_timeout = idle_timeout, .route = "/mcp"};
	char bytes[1024];
	struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};

	session_record_put(&w, &r);
	return ask(fd, BROKER_CREATE, &w);
}

static uint32_t about(int fd, enum broker_type type, uint8_t number)
{
	char bytes[SESSION_ID_BYTES + 1] = {(char)number};
	size_t n = type == BROKER_END ? sizeof(bytes) : SESSION_ID_BYTES;

	return ask(fd, type, &(struct wire_writer){.p = bytes, .length = n});
}

static struct wire_writer put_update(
    uint8_t number, uint32_t changes, const char *state, char *bytes, size_t size)
{
	struct session_record r = {.id = {{number}},
	    .idle_timeout = 60,
	    .route = "/mcp",
	    .changes = changes,
	    .state = span_of(state)};
	struct wire_writer w = {.p = bytes, .capacity = size};

	session_record_put(&w, &r);
	return w;
}

static uint32_t update(int fd, uint8_t number, uint32_t changes, const char *state)
{
	char bytes[1024];
	struct wire_writer w = put_update(number, changes, state, bytes, sizeof(bytes));

	return ask(fd, BROKER_UPDATE, &w);
}

static void send_update(int fd, uint8_t number, uint32_t changes, const char *state)
{
	char bytes[1024];
	struct wire_writer w = put_update(number, changes, state, bytes, sizeof(bytes));
	struct frame f = {.type = BROKER_UPDATE, .request = 9, .length = (uint32_t)w.length};

	cr_assert_eq(frame_send(fd, &f, w.p, -1), 0);
}

static void send_end(int fd, uint8_t number)
{
	char bytes[SESSION_ID_BYTES + 1] = {(char)number};
	struct frame f = {.type = BROKER_END, .request = 9, .length = sizeof(bytes)};

	cr_assert_eq(frame_send(fd, &f, bytes, -1), 0);
}

static bool is_silent(int fd, int milliseconds)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};

	return poll(&ready, 1, milliseconds) == 0;
}

static void hear_of_change(int fd)
{
	receive(fd);
	cr_assert_eq(header.type, BROKER_INVALIDATE, "who has it in its cache must hear of it");
	cr_assert_neq(header.request, 0);
	struct frame heard = {.type = BROKER_INVALIDATE, .request = header.request};
	cr_assert_eq(frame_send(fd, &heard, NULL, -1), 0);
}

static void expect_confirmation(int fd, enum broker_type type)
{
	uint32_t status;

	receive(fd);
	cr_assert_eq(header.type, type);
	memcpy(&status, payload, sizeof(status));
	cr_assert_eq(status, BROKER_OK);
}

static void retire(void)
{
	struct frame frame = {.type = CHANNEL_RETIRE};

	cr_assert_eq(frame_send(channel, &frame, NULL, -1), 0);
}

/* One that was asked to makes room for another: its pid. As the master does it. */
static pid_t succeed(pid_t pid)
{
	static struct vault left;
	struct frame frame;
	int status, fds[FRAME_FDS_MAX];
	unsigned count;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	while (frame_receive_fds(channel, &frame, payload, fds, &count) == 1) {
		cr_assert_eq(frame.type, CHANNEL_LEAVE);
		cr_assert_eq(vault_put(&left, frame.target, fds, count), 0);
	}
	close(channel);
	cr_assert(handover_complete(&left));
	boot.left = &left;
	pid = start();
	vault_close(&left);
	boot.left = NULL;
	return pid;
}

static pid_t replace(pid_t pid)
{
	retire();
	return succeed(pid);
}

/* The master's death ends the broker. */
static void finish(pid_t pid)
{
	int status;

	struct frame stop = {.type = CHANNEL_STOP};
	cr_assert_eq(frame_send(channel, &stop, NULL, -1), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	close(channel);
	cr_assert_eq(status, 0);
}

Test(broker, refuses_a_foreign_protocol_and_closes, .timeout = 20)
{
	pid_t pid = prepare();
	int fd = hello(BROKER_PROTOCOL + 1, BROKER_BAD);

	receive(fd);
	cr_assert_eq(header.type, 0);
	finish(pid);
}

Test(broker, kill_9_loses_no_session_and_revives_no_ended_one, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK), b = hello(BROKER_PROTOCOL, BROKER_OK);

	cr_assert_eq(create(a, 1, 60), BROKER_OK);
	cr_assert_eq(create(a, 1, 60), BROKER_OK, "a repeated create is no error");
	cr_assert_eq(create(a, 1, 61), BROKER_BAD);
	cr_assert_eq(create(a, 2, 60), BROKER_OK);
	cr_assert_eq(create(a, 3, 60), BROKER_FULL);
	send_end(b, 1);
	hear_of_change(a);
	expect_confirmation(b, BROKER_END);
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	close(channel);
	pid = start();
	a = hello(BROKER_PROTOCOL, BROKER_OK);
	cr_assert_eq(about(a, BROKER_GET, 1), BROKER_UNKNOWN);
	cr_assert_eq(about(a, BROKER_GET, 2), BROKER_OK);
	cr_assert_eq(create(a, 4, 1), BROKER_OK);
	receive(a);
	cr_assert_eq(header.type, BROKER_INVALIDATE);
	receive(a);
	cr_assert_eq(header.type, BROKER_REAP);
	finish(pid);
}

/* A reload's: what is there stays, and new ones find room, or none. */
Test(broker, as_many_sessions_as_the_master_says, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK);
	uint32_t most = 3;
	struct frame order = {.type = CHANNEL_SESSIONS_MAX, .length = sizeof(most)};

	cr_assert_eq(create(a, 1, 60), BROKER_OK);
	cr_assert_eq(create(a, 2, 60), BROKER_OK);
	cr_assert_eq(create(a, 3, 60), BROKER_FULL);
	cr_assert_eq(frame_send(channel, &order, &most, -1), 0);
	while (create(a, 3, 60) == BROKER_FULL) { /* it may hear of us first */
	}
	most = 1;
	cr_assert_eq(frame_send(channel, &order, &most, -1), 0);
	cr_assert_eq(about(a, BROKER_GET, 3), BROKER_OK);
	cr_assert_eq(about(a, BROKER_END, 3), BROKER_OK);
	while (create(a, 4, 60) == BROKER_OK)
		cr_assert_eq(about(a, BROKER_END, 4), BROKER_OK);
	cr_assert_eq(about(a, BROKER_GET, 1), BROKER_OK);
	finish(pid);
}

Test(broker, an_update_is_made_once_and_survives, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK), b = hello(BROKER_PROTOCOL, BROKER_OK);

	cr_assert_eq(create(a, 1, 60), BROKER_OK);
	cr_assert_eq(update(b, 2, 1, "x"), BROKER_UNKNOWN);
	send_update(b, 1, 1, "x");
	hear_of_change(a);
	expect_confirmation(b, BROKER_UPDATE);
	cr_assert_eq(update(b, 1, 1, "x"), BROKER_OK, "a repeated update is no error");
	cr_assert_eq(update(a, 1, 1, "y"), BROKER_STALE);
	cr_assert_eq(update(a, 1, 3, "y"), BROKER_STALE);
	send_update(a, 1, 2, "y");
	hear_of_change(b);
	expect_confirmation(a, BROKER_UPDATE);
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	close(channel);
	pid = start();
	a = hello(BROKER_PROTOCOL, BROKER_OK);
	cr_assert_eq(update(a, 1, 2, "z"), BROKER_STALE, "it is at its second change");
	cr_assert_eq(update(a, 1, 3, "z"), BROKER_OK);
	finish(pid);
}

Test(broker, a_change_is_confirmed_when_nobody_can_use_what_was_there_before, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK), b = hello(BROKER_PROTOCOL, BROKER_OK),
	    c = hello(BROKER_PROTOCOL, BROKER_OK);

	cr_assert_eq(create(a, 1, 60), BROKER_OK);
	cr_assert_eq(create(b, 2, 60), BROKER_OK);
	cr_assert_eq(about(b, BROKER_GET, 1), BROKER_OK);
	send_update(c, 1, 1, "x");
	hear_of_change(a);
	cr_assert(is_silent(c, 50), "the other has not heard");
	hear_of_change(b);
	expect_confirmation(c, BROKER_UPDATE);

	/* One that is gone has nothing cached. */
	cr_assert_eq(about(a, BROKER_GET, 1), BROKER_OK);
	send_update(c, 1, 2, "y");
	receive(a);
	cr_assert(is_silent(c, 50));
	close(a);
	expect_confirmation(c, BROKER_UPDATE);

	/* One that does not answer is not waited for long. */
	cr_assert_eq(about(b, BROKER_GET, 1), BROKER_OK);
	send_update(c, 1, 3, "z");
	receive(b);
	expect_confirmation(c, BROKER_UPDATE);

	/* The end of a session is a change as any other. */
	cr_assert_eq(about(b, BROKER_GET, 2), BROKER_OK);
	send_end(c, 2);
	receive(b);
	struct frame heard = header;
	cr_assert(is_silent(c, 50), "it is used elsewhere");
	heard.length = 0;
	cr_assert_eq(frame_send(b, &heard, NULL, -1), 0);
	expect_confirmation(c, BROKER_END);

	/* Nor does the maker have to be there. */
	cr_assert_eq(about(b, BROKER_GET, 1), BROKER_OK);
	send_update(c, 1, 4, "w");
	receive(b);
	close(c);
	cr_assert_eq(about(b, BROKER_GET, 1), BROKER_OK);
	finish(pid);
}

/* Mail for the box of that number; `fd` is -1 or holds it. */
static uint32_t mail(int fd, uint8_t box, const char *text, int holder)
{
	char bytes[MAIL_BOX_BYTES + 1 + 32] = {(char)box};
	struct wire_writer w = {.p = bytes, .length = MAIL_BOX_BYTES, .capacity = sizeof(bytes)};
	struct frame frame = {.type = BROKER_MAIL, .request = 5};

	wire_put_u8(&w, 7);
	wire_put_bytes(&w, text, strlen(text));
	frame.length = (uint32_t)w.length;
	cr_assert_eq(frame_send(fd, &frame, bytes, holder), 0);
	receive(fd);
	cr_assert_eq(header.type, BROKER_MAIL);
	return *(uint32_t *)(void *)payload;
}

static uint32_t box(int fd, enum broker_type type, uint8_t number)
{
	char bytes[MAIL_BOX_BYTES] = {(char)number};

	return ask(fd, type, &(struct wire_writer){.p = bytes, .length = sizeof(bytes)});
}

static void expect_mail(int fd, const char *text)
{
	receive(fd);
	cr_assert_eq(header.type, BROKER_MAIL);
	cr_assert_eq(header.flags & FRAME_REPLY, 0);
	cr_assert_eq(header.length, MAIL_BOX_BYTES + 1 + strlen(text));
	cr_assert_eq(memcmp((char *)payload + MAIL_BOX_BYTES + 1, text, strlen(text)), 0);
}

Test(broker, a_process_that_does_not_turn_has_no_boxes, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK), b = hello(BROKER_PROTOCOL, BROKER_OK);
	const int32_t others = pid, ours = getpid();
	struct frame frame = {.type = CHANNEL_SILENT, .length = sizeof(ours)};

	cr_assert_eq(box(a, BROKER_BOX_OPEN, 1), BROKER_OK);
	cr_assert_eq(frame_send(channel, &frame, &others, -1), 0);
	cr_assert_eq(frame_send(channel, &frame, &ours, -1), 0);
	/* What the master says is heard in its own time. */
	uint32_t status = BROKER_OK;
	for (int i = 0; i < 1000 && status != BROKER_UNKNOWN; i++)
		status = mail(b, 1, "x", -1);
	cr_assert_eq(status, BROKER_UNKNOWN);
	while (recv(a, payload, sizeof(payload), MSG_DONTWAIT) > 0) {
	}
	cr_assert_eq(box(a, BROKER_BOX_CLOSE, 1), BROKER_OK, "it turns again");
	cr_assert_eq(box(a, BROKER_BOX_OPEN, 2), BROKER_OK);
	cr_assert_eq(mail(b, 2, "hello", -1), BROKER_OK);
	close(a);
	close(b);
	finish(pid);
}

Test(broker, mail_goes_to_the_owner_of_its_box, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK), b = hello(BROKER_PROTOCOL, BROKER_OK);

	cr_assert_eq(mail(b, 1, "x", -1), BROKER_UNKNOWN);
	cr_assert_eq(box(a, BROKER_BOX_OPEN, 1), BROKER_OK);
	cr_assert_eq(box(a, BROKER_BOX_OPEN, 1), BROKER_OK, "after a reconnect it comes again");
	cr_assert_eq(box(b, BROKER_BOX_OPEN, 1), BROKER_BAD, "somebody else's");
	cr_assert_eq(mail(b, 1, "hello", -1), BROKER_OK);
	expect_mail(a, "hello");
	cr_assert_eq(mail(b, 0, "all", -1), BROKER_OK);
	expect_mail(a, "all");
	cr_assert_eq(box(b, BROKER_BOX_CLOSE, 1), BROKER_OK, "of no effect");
	cr_assert_eq(mail(b, 1, "again", -1), BROKER_OK);
	expect_mail(a, "again");
	cr_assert_eq(box(a, BROKER_BOX_CLOSE, 1), BROKER_OK);
	cr_assert_eq(mail(b, 1, "x", -1), BROKER_UNKNOWN);
	cr_assert_eq(box(a, BROKER_BOX_OPEN, 2), BROKER_OK);
	close(a);
	/* The end of a connection is seen in its own time. */
	uint32_t status = BROKER_OK;
	for (int i = 0; i < 1000 && status != BROKER_UNKNOWN; i++)
		status = mail(b, 2, "x", -1);
	cr_assert_eq(status, BROKER_UNKNOWN);
	finish(pid);
}

Test(broker, another_goes_on_with_connections_boxes_and_changes, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK), b = hello(BROKER_PROTOCOL, BROKER_OK);

	cr_assert_eq(create(a, 1, 60), BROKER_OK);
	cr_assert_eq(box(a, BROKER_BOX_OPEN, 1), BROKER_OK);
	send_update(b, 1, 1, "x");
	receive(a);
	cr_assert_eq(header.type, BROKER_INVALIDATE);
	struct frame heard = {.type = BROKER_INVALIDATE, .request = header.request};
	/* Asked, and not read by the old one. */
	kill(pid, SIGSTOP);
	retire();
	cr_assert_eq(frame_send(a, &heard, NULL, -1), 0);
	kill(pid, SIGCONT);
	pid = succeed(pid);
	expect_confirmation(b, BROKER_UPDATE);
	cr_assert_eq(mail(b, 1, "hello", -1), BROKER_OK, "the box is still there");
	expect_mail(a, "hello");
	cr_assert_eq(about(b, BROKER_GET, 1), BROKER_OK);
	pid = replace(pid);
	send_end(a, 1);
	hear_of_change(b); /* who has it in its cache is still known */
	expect_confirmation(a, BROKER_END);
	cr_assert_eq(about(b, BROKER_GET, 1), BROKER_UNKNOWN);
	finish(pid);
}

Test(broker, another_knows_how_long_a_session_was_idle, .timeout = 20)
{
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK);

	cr_assert_eq(create(a, 1, 2), BROKER_OK);
	/* Each would give it two more seconds if it did not know. */
	for (int i = 0; i < 40 && is_silent(a, 100); i++)
		pid = replace(pid);
	receive(a);
	cr_assert_eq(header.type, BROKER_INVALIDATE);
	receive(a);
	cr_assert_eq(header.type, BROKER_REAP);
	finish(pid);
}

Test(broker, another_delivers_what_was_queued, .timeout = 20)
{
	enum { ASKED = 2000 };
	pid_t pid = prepare();
	int a = hello(BROKER_PROTOCOL, BROKER_OK);
	char bytes[SESSION_ID_BYTES] = {1};
	struct frame get = {.type = BROKER_GET, .length = sizeof(bytes)};
	static char state[SESSION_STATE_MAX / 2];
	uint32_t sent = 0;

	memset(state, 's', sizeof(state) - 1);
	struct session_record r = {
	    .id = {{1}}, .idle_timeout = 60, .route = "/mcp", .state = span_of(state)};
	static char record[FRAME_PAYLOAD_MAX];
	struct wire_writer w = {.p = record, .capacity = sizeof(record)};
	session_record_put(&w, &r);
	cr_assert_eq(ask(a, BROKER_CREATE, &w), BROKER_OK);
	/* More than the socket takes. */
	while (sent < ASKED) {
		get.request = sent + 1;
		if (frame_send(a, &get, bytes, -1))
			break;
		sent++;
	}
	pid = replace(pid);
	for (uint32_t i = 1; i <= sent; i++) {
		receive(a);
		cr_assert_eq(header.type, BROKER_GET);
		cr_assert_eq(header.request, i);
	}
	cr_assert(is_silent(a, 20));
	finish(pid);
}

static uint32_t inherit(uint32_t version)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	cr_assert_eq(connect(fd, (void *)&address, sizeof(address)), 0);
	uint32_t status =
	    ask(fd, BROKER_INHERIT, &(struct wire_writer){.p = (void *)&version, .length = 4});
	receive(fd);
	cr_assert_eq(header.type, 0, "nothing comes after the refusal");
	close(fd);
	return status;
}

/* We are the master here. */
Test(broker, gives_nothing_to_another_master_while_this_one_lives, .timeout = 20)
{
	pid_t pid = prepare();

	cr_assert_eq(inherit(MARGAY_MANIFEST_VERSION), BROKER_UNKNOWN);
	cr_assert_eq(inherit(MARGAY_MANIFEST_VERSION + 1), BROKER_BAD);
	int worker = hello(BROKER_PROTOCOL, BROKER_OK);
	struct frame f = {.type = BROKER_INHERIT, .request = 7};
	cr_assert_eq(frame_send(worker, &f, NULL, -1), 0);
	receive(worker);
	cr_assert_eq(header.type, 0, "a worker can't become one");
	finish(pid);
}
