/* control: one reply per line and in order, whatever the lines are and however they arrive. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "master/supervisor/children.h"

static struct supervisor s;
static char directory[] = "/tmp/margay-control-XXXXXX";
static struct buffer received;

static void on_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)timer;
	(void)events;
	cr_assert_fail("nothing came within ten seconds");
}

static void start(void)
{
	static const struct log_options nowhere = {
	    .level = LOG_LEVEL_ERROR, .format = LOG_FORMAT_JSON, .file = "/dev/null"};

	cr_assert_not_null(mkdtemp(directory));
	s.loop = ev_default_loop(0);
	s.state = SUPERVISOR_RUNNING;
	s.owns = true;
	s.runtime_dir = directory;
	s.source.path = (char *)"/nonexistent/margay.yaml";
	TAILQ_INIT(&s.generations);
	cr_assert_eq(log_open(&nowhere, "master", &s.log), 0);
	cr_assert_eq(metrics_create(&s.metrics), 0);
	s.metrics_slot = metrics_slot_take(s.metrics, METRIC_SLOT_MASTER, 0, 0);
	s.cells = metrics_slot_open(s.metrics, s.metrics_slot, getpid());
	cr_assert_not_null(s.broker = child_create(&s, ROLE_BROKER, NULL, 0));
	cr_assert_not_null(s.keeper = child_create(&s, ROLE_KEEPER, NULL, 0));
	cr_assert_eq(listeners_open(&s.listeners), 0);
	cr_assert_eq(control_open(&s, -1, &s.control), 0);
}

static void finish(void)
{
	control_close(s.control);
	listeners_close(s.listeners);
	cJSON_Delete(s.reload.errors);
	child_free(s.broker);
	child_free(s.keeper);
	metrics_close(s.metrics);
	log_close(s.log);
	buffer_release(&received);
	rmdir(directory);
}

TestSuite(control, .init = start, .fini = finish);

static int client_open(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(control_path(directory, CONTROL_SOCKET, address.sun_path));
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void client_send(int fd, const char *text, size_t n)
{
	cr_assert_eq(send(fd, text, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* The next reply, or NULL at the end of the connection. Runs the loop while there is neither. */
static cJSON *client_reply(int fd)
{
	char block[4096];
	const char *end;
	ev_timer timeout;

	ev_timer_init(&timeout, on_timeout, 10, 0);
	ev_timer_start(s.loop, &timeout);
	while (!(end = memchr(buffer_span(&received).p, '\n', buffer_length(&received)))) {
		ssize_t n = recv(fd, block, sizeof(block), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n > 0)
			cr_assert_eq(buffer_append(&received, block, (size_t)n, SIZE_MAX), 0);
		else
			ev_run(s.loop, EVRUN_ONCE);
	}
	ev_timer_stop(s.loop, &timeout);
	if (!end)
		return NULL;
	size_t n = (size_t)(end - buffer_span(&received).p);
	cJSON *reply = cJSON_ParseWithLength(buffer_span(&received).p, n);
	cr_assert_not_null(reply);
	buffer_consume(&received, n + 1);
	return reply;
}

static void expect_message(int fd, bool ok, const char *part)
{
	cJSON *reply = client_reply(fd);
	const char *message;

	cr_assert_not_null(reply);
	message = cJSON_GetStringValue(cJSON_GetObjectItem(reply, "message"));
	cr_assert_eq(cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok")), ok);
	cr_assert_not_null(message);
	cr_assert_not_null(strstr(message, part), "%s", message);
	cJSON_Delete(reply);
}

#define SEND(fd, text) client_send((fd), (text), sizeof(text) - 1)

Test(control, a_line_may_come_byte_by_byte)
{
	static const char line[] = "{\"command\":\"status\"}\n";
	int fd = client_open();

	for (size_t i = 0; i < sizeof(line) - 1; i++) {
		client_send(fd, line + i, 1);
		ev_run(s.loop, EVRUN_NOWAIT);
	}
	cJSON *reply = client_reply(fd);
	cr_assert(cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok")));
	cr_assert_eq(cJSON_GetObjectItem(reply, "pid")->valueint, (int)getpid());
	cJSON_Delete(reply);
	close(fd);
}

Test(control, what_is_no_request_is_told_so_and_the_next_line_is_served)
{
	static const char *const lines[] = {
	    "\n", "{\n", "null\n", "[]\n", "{}\n", "\"status\"\n", "{\"command\":1}\n", "\0{}\n"};
	static const size_t sizes[] = {1, 2, 5, 3, 3, 9, 14, 4};
	int fd = client_open();

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		client_send(fd, lines[i], sizes[i]);
		expect_message(fd, false, "a request is a JSON object");
	}
	SEND(fd, "{\"command\":\"statsu\"}\n");
	expect_message(fd, false, "did you mean `status`?");
	close(fd);
}

Test(control, a_line_without_end_closes_its_client_and_no_other)
{
	static char endless[CONTROL_REQUEST_MAX];
	int fd = client_open(), other = client_open();

	memset(endless, 'x', sizeof(endless));
	client_send(fd, endless, sizeof(endless));
	cr_assert_null(client_reply(fd));
	SEND(other, "{}\n");
	expect_message(other, false, "a request is a JSON object");
	close(fd);
	close(other);
}

Test(control, a_reload_whose_file_is_gone_is_answered_once)
{
	int fd = client_open();

	SEND(fd, "{\"command\":\"reload\"}\n{\"command\":\"nothing\"}\n");
	expect_message(fd, false, "can't be read");
	expect_message(fd, false, "unknown command `nothing`");
	cr_assert_eq(metrics_sum(s.metrics, M_RELOADS, (struct metric_at){0}), 1);
	close(fd);
}

Test(control, failing_reloads_in_one_write_are_answered_one_by_one)
{
	enum { COUNT = 2000 };
	static char lines[COUNT * sizeof("{\"command\":\"reload\"}")];
	int fd = client_open(), other = client_open();

	for (size_t i = 0; i < COUNT; i++)
		memcpy(lines + i * 21, "{\"command\":\"reload\"}\n", 21);
	client_send(fd, lines, sizeof(lines));
	SEND(other, "{\"command\":\"reload\"}\n");
	for (size_t i = 0; i < COUNT; i++)
		expect_message(fd, false, "can't be read");
	cr_assert_eq(buffer_length(&received), 0);
	expect_message(other, false, "can't be read");
	close(fd);
	close(other);
}

Test(control, a_client_that_left_while_it_waits_is_forgotten)
{
	int fd = client_open(), other = client_open();

	SEND(fd, "{\"command\":\"reload\"}\n");
	close(fd);
	SEND(other, "{\"command\":\"reload\"}\n");
	expect_message(other, false, "can't be read");
	close(other);
}

Test(control, only_what_runs_is_replaced)
{
	int fd = client_open();

	SEND(fd, "{\"command\":\"replace\"}\n{\"command\":\"replace\",\"process\":\"master\"}\n");
	expect_message(fd, false, "say which");
	expect_message(fd, false, "say which");
	SEND(fd, "{\"command\":\"replace\",\"process\":\"keeper\"}\n");
	expect_message(fd, false, "starting or stopping");
	/* It is asked once, however many wait for it; their further requests wait, too. */
	s.broker->state = CHILD_ACCEPTING;
	SEND(fd, "{\"command\":\"replace\",\"process\":\"broker\"}\n{\"command\":\"status\"}\n");
	ev_run(s.loop, EVRUN_NOWAIT);
	cr_assert(s.broker->replacing);
	child_replaced(s.broker);
	expect_message(fd, true, "broker: replaced");
	cJSON *status = client_reply(fd);
	cr_assert(cJSON_IsTrue(cJSON_GetObjectItem(status, "ok")));
	cJSON_Delete(status);
	close(fd);
}
