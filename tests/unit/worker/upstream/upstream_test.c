/*
 * upstream: what becomes of calls and connections, with a server that does what the test says.
 */
#include "worker/upstream/upstream.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/worker/stage.h"

static const char ok_answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/* A call that remembers what happened to it. */
struct probe {
	struct upstream_call call;
	unsigned status;
	char body[256];
	size_t body_length;
	int reason;
	char detail[128];
	bool ended;
};

static struct probe *probe_of(struct upstream_call *call)
{
	return container_of(call, struct probe, call);
}

static void on_head(struct upstream_call *call, const struct http_head *head)
{
	probe_of(call)->status = head->status;
}

static void on_body(struct upstream_call *call, const char *p, size_t n)
{
	struct probe *probe = probe_of(call);

	cr_assert_leq(n, sizeof(probe->body) - probe->body_length);
	memcpy(probe->body + probe->body_length, p, n);
	probe->body_length += n;
}

static void on_read_end(struct upstream_call *call)
{
	cr_assert_not(probe_of(call)->ended);
}

static void on_end(struct upstream_call *call, int reason, const char *detail)
{
	struct probe *probe = probe_of(call);

	cr_assert_not(probe->ended, "a call ends once");
	probe->ended = true;
	probe->reason = reason;
	snprintf(probe->detail, sizeof(probe->detail), "%s", detail);
}

static const struct upstream_call_ops ops = {on_head, on_body, on_read_end, on_end};

static void probe_start(struct stage *s, struct probe *probe, bool repeatable)
{
	memset(probe, 0, sizeof(*probe));
	probe->call.upstream = &s->worker->upstreams[0];
	probe->call.ops = &ops;
	probe->call.repeatable = repeatable;
	probe->call.body = SPAN("{}");
	cr_assert_eq(buffer_printf(&probe->call.head, 1024,
			 "POST /mcp HTTP/1.1\r\nHost: up\r\nContent-Length: 2\r\n\r\n"),
	    0);
	upstream_call_start(&probe->call);
}

static void probe_free(struct probe *probe)
{
	buffer_release(&probe->call.head);
}

/* One call, answered; its connection is pooled afterwards. Returns the server's end. */
static int serve_one(struct stage *s)
{
	struct probe probe;
	char request[512];

	probe_start(s, &probe, false);
	int fd = stage_accept(s);
	stage_expect(s, fd, "\r\n\r\n{}", request, sizeof(request));
	stage_send(fd, ok_answer);
	stage_until(s, &probe.ended);
	cr_assert_eq(probe.reason, UPSTREAM_OK, "%s", probe.detail);
	cr_assert_eq(probe.status, 200);
	cr_assert_eq(probe.body_length, 2);
	probe_free(&probe);
	return fd;
}

Test(upstream, reuses_a_connection_for_the_next_call)
{
	struct stage s;
	struct probe probe;
	char request[512];

	stage_open(&s);
	int fd = serve_one(&s);
	probe_start(&s, &probe, false);
	stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
	stage_send(fd, ok_answer);
	stage_until(&s, &probe.ended);
	cr_assert_eq(probe.reason, UPSTREAM_OK);
	cr_assert_eq(s.worker->upstreams[0].open_count, 1);
	probe_free(&probe);
	close(fd);
	stage_close(&s);
}

Test(upstream, repeats_only_what_may_be_repeated_on_a_stale_connection)
{
	for (int repeatable = 0; repeatable <= 1; repeatable++) {
		struct stage s;
		struct probe probe;
		char request[512];

		stage_open(&s);
		int fd = serve_one(&s);
		probe_start(&s, &probe, repeatable);
		/* The server took the request and died: nobody knows whether it was run. */
		stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
		close(fd);
		if (repeatable) {
			fd = stage_accept(&s);
			stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
			stage_send(fd, ok_answer);
			stage_until(&s, &probe.ended);
			cr_assert_eq(probe.reason, UPSTREAM_OK);
			close(fd);
		} else {
			stage_until(&s, &probe.ended);
			cr_assert_eq(probe.reason, METRIC_REASON_CLOSED);
		}
		probe_free(&probe);
		stage_close(&s);
	}
}

Test(upstream, does_not_repeat_on_a_new_connection)
{
	struct stage s;
	struct probe probe;
	char request[512];

	stage_open(&s);
	probe_start(&s, &probe, true);
	int fd = stage_accept(&s);
	stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
	close(fd);
	stage_until(&s, &probe.ended);
	cr_assert_eq(probe.reason, METRIC_REASON_CLOSED);
	probe_free(&probe);
	stage_close(&s);
}

Test(upstream, says_when_nobody_listens)
{
	struct stage s;
	struct probe probe;

	stage_open(&s);
	close(s.listener);
	s.listener = -1;
	probe_start(&s, &probe, true);
	stage_until(&s, &probe.ended);
	cr_assert_eq(probe.reason, METRIC_REASON_CONNECT);
	cr_assert_not_null(strstr(probe.detail, "refused"), "%s", probe.detail);
	probe_free(&probe);
	stage_close(&s);
}

Test(upstream, refuses_answers_that_are_no_http)
{
	static const char *const garbage[] = {
	    "SSH-2.0-OpenSSH\r\n\r\n",
	    "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
	    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\n\r\n",
	};

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		struct stage s;
		struct probe probe;
		char request[512];

		stage_open(&s);
		probe_start(&s, &probe, true);
		int fd = stage_accept(&s);
		stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
		stage_send(fd, garbage[i]);
		stage_until(&s, &probe.ended);
		cr_expect_eq(probe.reason, METRIC_REASON_PROTOCOL, "%s", garbage[i]);
		cr_expect_eq(s.worker->upstreams[0].open_count, 0, "%s", garbage[i]);
		probe_free(&probe);
		close(fd);
		stage_close(&s);
	}
}

Test(upstream, drops_a_connection_that_said_too_much)
{
	struct stage s;
	struct probe probe;
	char request[512];

	stage_open(&s);
	probe_start(&s, &probe, true);
	int fd = stage_accept(&s);
	stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
	stage_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n");
	stage_until(&s, &probe.ended);
	cr_assert_eq(probe.reason, UPSTREAM_OK);
	cr_assert_eq(s.worker->upstreams[0].open_count, 0);
	probe_free(&probe);
	close(fd);
	stage_close(&s);
}

Test(upstream, skips_interim_answers_and_takes_an_answer_cut_at_every_byte)
{
	static const char answer[] =
	    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
	    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
	struct stage s;
	struct probe probe;
	char request[512], one[2] = "";

	stage_open(&s);
	probe_start(&s, &probe, true);
	int fd = stage_accept(&s);
	stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
	for (const char *p = answer; *p; p++) {
		one[0] = *p;
		stage_send(fd, one);
		ev_run(s.worker->loop, EVRUN_NOWAIT);
	}
	stage_until(&s, &probe.ended);
	cr_assert_eq(probe.reason, UPSTREAM_OK, "%s", probe.detail);
	cr_assert_eq(probe.status, 200);
	cr_assert_arr_eq(probe.body, "abcd", 4);
	cr_assert_eq(s.worker->upstreams[0].idle_count, 1);
	probe_free(&probe);
	close(fd);
	stage_close(&s);
}

Test(upstream, lets_calls_wait_for_a_connection_when_all_are_busy)
{
	struct stage s;
	struct probe first, second;
	char request[512];

	stage_open(&s);
	s.config.limits.upstream_connections = 1;
	probe_start(&s, &first, false);
	probe_start(&s, &second, false);
	cr_assert_eq(s.worker->upstreams[0].waiting_count, 1);
	int fd = stage_accept(&s);
	stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
	stage_send(fd, ok_answer);
	stage_until(&s, &first.ended);
	stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
	stage_send(fd, ok_answer);
	stage_until(&s, &second.ended);
	cr_assert_eq(second.reason, UPSTREAM_OK);
	probe_free(&first);
	probe_free(&second);
	close(fd);
	stage_close(&s);
}

Test(upstream, gives_up_on_a_silent_server)
{
	struct stage s;
	struct probe probe;

	stage_open(&s);
	probe_start(&s, &probe, true);
	int fd = stage_accept(&s);
	stage_until(&s, &probe.ended);
	cr_assert_eq(probe.reason, METRIC_REASON_TIMEOUT);
	cr_assert_not_null(strstr(probe.detail, "upstream_first_byte"), "%s", probe.detail);
	probe_free(&probe);
	close(fd);
	stage_close(&s);
}

Test(upstream, a_cancelled_call_never_speaks_again_and_its_connection_is_closed)
{
	struct stage s;
	struct probe probe;
	char request[512];

	stage_open(&s);
	probe_start(&s, &probe, true);
	int fd = stage_accept(&s);
	stage_expect(&s, fd, "\r\n\r\n{}", request, sizeof(request));
	upstream_call_cancel(&probe.call);
	upstream_call_cancel(&probe.call);
	cr_assert_eq(recv(fd, request, sizeof(request), 0), 0, "the server sees the end");
	cr_assert_not(probe.ended);
	cr_assert_eq(s.worker->upstreams[0].open_count, 0);
	probe_free(&probe);
	close(fd);
	stage_close(&s);
}

static int listen_again(uint16_t port)
{
	static const int on = 1;
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, 16), 0);
	return fd;
}

Test(upstream, one_that_refuses_is_tried_again_for_as_long_as_it_says)
{
	struct stage s;
	struct probe probe;
	bool over = false;

	stage_open(&s);
	s.config.timeouts.upstream_retry = 0.3;
	close(s.listener);
	s.listener = -1;
	double began = ev_time();
	probe_start(&s, &probe, false);
	for (; !probe.ended && ev_time() - began < 5; ev_run(s.worker->loop, EVRUN_ONCE)) {
	}
	cr_expect_eq(probe.reason, METRIC_REASON_CONNECT);
	cr_expect_geq(ev_time() - began, 0.25);
	probe_free(&probe);

	s.config.timeouts.upstream_retry = 5;
	probe_start(&s, &probe, false);
	ev_run(s.worker->loop, EVRUN_NOWAIT);
	cr_expect_not(probe.ended);
	s.listener = listen_again(s.port);
	int fd = stage_accept(&s);
	char text[512];
	stage_expect(&s, fd, "{}", text, sizeof(text));
	stage_send(fd, ok_answer);
	for (; !over; over = probe.ended)
		ev_run(s.worker->loop, EVRUN_ONCE);
	cr_expect_eq(probe.reason, UPSTREAM_OK);
	cr_expect_eq(probe.status, 200);

	/* One that waits can be forgotten; a worker that drains waits for nobody. */
	probe_free(&probe);
	close(fd);
	close(s.listener);
	s.listener = -1;
	probe_start(&s, &probe, true);
	for (int i = 0; i < 5; i++)
		ev_run(s.worker->loop, EVRUN_NOWAIT);
	upstream_call_cancel(&probe.call);
	cr_expect_not(probe.ended);
	probe_free(&probe);
	s.worker->draining = true;
	probe_start(&s, &probe, false);
	for (began = ev_time(); !probe.ended && ev_time() - began < 1;)
		ev_run(s.worker->loop, EVRUN_ONCE);
	cr_expect_eq(probe.reason, METRIC_REASON_CONNECT);
	probe_free(&probe);
	stage_close(&s);
}
