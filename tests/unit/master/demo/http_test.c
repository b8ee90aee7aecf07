/* http: a forked demo server on a free port, spoken to in plain bytes. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/demo/demo.h"
#include "master/demo/protocol.h"

enum { DEADLINE = 10000 }; /* milliseconds until a wait has failed */

/* One connection and all that came on it and was not taken yet. */
struct peer {
	int fd;
	size_t n;
	char text[128 << 10];
};

static pid_t child;
static struct sockaddr_in address;
static char session[64];
static struct peer peer, other;

static void peer_open(struct peer *p)
{
	int yes = 1;

	p->fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)), 0);
	p->n = 0;
	cr_assert_eq(connect(p->fd, (void *)&address, sizeof(address)), 0);
}

static void peer_send(struct peer *p, const char *bytes, size_t n)
{
	cr_assert_eq(send(p->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* Read more; false at the end of the stream. */
static bool peer_read(struct peer *p)
{
	struct pollfd ready = {.fd = p->fd, .events = POLLIN};

	cr_assert_eq(poll(&ready, 1, DEADLINE), 1, "nothing came after: %s", p->text);
	cr_assert_lt(p->n, sizeof(p->text) - 1);
	ssize_t n = recv(p->fd, p->text + p->n, sizeof(p->text) - 1 - p->n, 0);
	cr_assert_geq(n, 0);
	p->n += (size_t)n;
	p->text[p->n] = '\0';
	return n > 0;
}

/* Everything up to and with `needle`, which must come. Valid until the next use of the peer. */
static const char *peer_until(struct peer *p, const char *needle)
{
	static char taken[sizeof(p->text)];
	char *at;

	p->text[p->n] = '\0';
	while (!(at = memmem(p->text, p->n, needle, strlen(needle))))
		cr_assert(peer_read(p), "the end instead of %s after: %s", needle, p->text);
	size_t n = (size_t)(at - p->text) + strlen(needle);
	memcpy(taken, p->text, n);
	taken[n] = '\0';
	memmove(p->text, p->text + n, p->n - n + 1);
	p->n -= n;
	return taken;
}

static void peer_expect_end(struct peer *p)
{
	while (peer_read(p))
		;
}

static void start(const char *option)
{
	char *argv[] = {
	    (char *)"demo-server", (char *)"--http", (char *)"127.0.0.1:0", (char *)option, NULL};
	char line[256];
	int ends[2], port;

	cr_assert_eq(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		/* Not left behind by a test that failed. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		_exit(demo_main(option ? 4 : 3, argv));
	}
	close(ends[1]);
	FILE *stream = fdopen(ends[0], "r");
	cr_assert_not_null(fgets(line, sizeof(line), stream));
	cr_assert_eq(sscanf(line, "demo-server: listening on http://127.0.0.1:%d/mcp", &port), 1,
	    "%s", line);
	fclose(stream);
	address = (struct sockaddr_in){.sin_family = AF_INET,
	    .sin_port = htons((in_port_t)port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void post(struct peer *p, const char *body)
{
	char head[512];
	int n = snprintf(head, sizeof(head),
	    "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\n"
	    "Accept: application/json\r\nAccept: text/event-stream;q=0.5\r\n%s%s%s"
	    "Content-Length: %zu\r\n\r\n",
	    session[0] ? "mcp-session-id: " : "", session, session[0] ? "\r\n" : "", strlen(body));

	peer_send(p, head, (size_t)n);
	peer_send(p, body, strlen(body));
}

static void initialize(struct peer *p, const char *revision)
{
	char body[256];

	session[0] = '\0';
	snprintf(body, sizeof(body),
	    "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
	    "\"protocolVersion\":\"%s\",\"capabilities\":{\"elicitation\":{}}}}",
	    revision);
	post(p, body);
	const char *at = strstr(peer_until(p, "\r\n\r\n"), "Mcp-Session-Id: ");
	cr_assert_not_null(at);
	cr_assert_eq(sscanf(at, "Mcp-Session-Id: %63[0-9a-f]\r\n", session), 1);
	peer_until(p, "no rights.\"}}");
}

static void open_stream(struct peer *p)
{
	char head[256];
	int n = snprintf(head, sizeof(head),
	    "GET /mcp HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nMcp-Session-Id: "
	    "%s\r\n\r\n",
	    session);

	peer_send(p, head, (size_t)n);
	cr_assert_not_null(strstr(peer_until(p, "\r\n\r\n"), "text/event-stream"));
}

/* Send a request as it stands; the header of the answer must begin with this status. */
static void expect_status(const char *request, const char *status)
{
	peer_open(&other);
	peer_send(&other, request, strlen(request));
	const char *got = peer_until(&other, "\r\n\r\n");
	cr_expect_eq(strncmp(got, "HTTP/1.1 ", 9), 0);
	cr_expect_eq(strncmp(got + 9, status, 3), 0, "%s: %s", request, got);
	close(other.fd);
}

static void set_up(void)
{
	start(NULL);
	peer_open(&peer);
}

static void tear_down(void)
{
	int status;

	kill(child, SIGTERM);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
	close(peer.fd);
}

TestSuite(demo_http, .init = set_up, .fini = tear_down, .timeout = 60);

#define CALL(tool, arguments)                                                                  \
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"" tool \
	"\",\"arguments\":" arguments ",\"_meta\":{\"progressToken\":\"t\"}}}"
#define ECHO   CALL("echo", "{\"text\":\"hello\"}")
#define HEADER "Host: x\r\nContent-Type: application/json\r\nAccept: */*\r\n"

Test(demo_http, serves_request_after_request_on_one_connection)
{
	initialize(&peer, "2025-11-25");
	for (int i = 0; i < 3; i++) {
		post(&peer, ECHO);
		cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"),
		    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "));
		peer_until(&peer, "\"text\":\"hello\"}]}}");
		post(&peer, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
		cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"),
		    "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n"));
	}
}

Test(demo_http, refuses_with_the_right_status)
{
	static const struct {
		const char *request, *status;
	} rows[] = {
	    {"POST /other HTTP/1.1\r\n" HEADER "Content-Length: 0\r\n\r\n", "404"},
	    {"PUT /mcp HTTP/1.1\r\n" HEADER "Content-Length: 0\r\n\r\n", "405"},
	    {"POST /mcp HTTP/1.1\r\n" HEADER "Content-Length: 1\r\n\r\nx", "400"},
	    {"POST http://x/mcp?a=b HTTP/1.1\r\n" HEADER "Content-Length: 2\r\n\r\n{}", "400"},
	    {"POST /mcp HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n{}", "415"},
	    {"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	     "Accept: application/json, text/html\r\nContent-Length: 2\r\n\r\n{}",
		"406"},
	    {"GET /mcp HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n", "406"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "\r\n", "400"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "Mcp-Session-Id: 0\r\n\r\n", "404"},
	    {"DELETE /mcp HTTP/1.1\r\n" HEADER "\r\n", "400"},
	    {"DELETE /mcp HTTP/1.1\r\n" HEADER
	     "Mcp-Session-Id: 00112233445566778899aabbccddeeff\r\n\r\n",
		"404"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "MCP-Protocol-Version: 2024-11-05\r\n\r\n", "400"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "MCP-Protocol-Version: \r\n\r\n", "400"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "Origin: http://localhost.example\r\n\r\n", "403"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "Origin: null\r\n\r\n", "403"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "Origin: http://localhost:80\r\n\r\n", "400"},
	    {"GET /mcp HTTP/1.1\r\n\r\n", "400"},
	    {"GET /mcp HTTP/1.1\r\n" HEADER "Host: x\r\n\r\n", "400"},
	    {"GET /mcp HTTP/2.0\r\n" HEADER "\r\n", "505"},
	    {"POST /mcp HTTP/1.1\r\n" HEADER "Content-Length: 4194305\r\n\r\n", "413"},
	    {"POST /mcp HTTP/1.1\r\n" HEADER "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"
	     "\r\n{}",
		"400"},
	    {"rubbish\r\n\r\n", "400"},
	};
	static char request[70000];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_status(rows[i].request, rows[i].status);
	snprintf(request, sizeof(request), "GET /%0300d HTTP/1.1\r\n" HEADER "\r\n", 0);
	expect_status(request, "414");
	snprintf(
	    request, sizeof(request), "GET /mcp HTTP/1.1\r\n" HEADER "Origin: %0256d\r\n\r\n", 0);
	expect_status(request, "431");
	initialize(&peer, "2025-11-25");
	post(&peer, ECHO);
	peer_until(&peer, "hello");
}

Test(demo_http, a_request_may_come_byte_by_byte_or_several_at_once)
{
	char request[1024];

	initialize(&peer, "2025-11-25");
	int n = snprintf(request, sizeof(request),
	    "POST /mcp HTTP/1.1\r\n" HEADER "Mcp-Session-Id: %s\r\nTransfer-Encoding: chunked\r\n"
	    "\r\n2b\r\n{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/c\r\n1\r\na\r\n"
	    "38\r\nll\",\"params\":{\"name\":\"echo\",\"arguments\":{\"text\":\"hey\"}}}\r\n0\r\n"
	    "\r\n",
	    session);
	for (int i = 0; i < n; i++)
		peer_send(&peer, request + i, 1);
	peer_until(&peer, "\"id\":\"a\",\"result\"");
	peer_until(&peer, "hey\"}]}}");
	for (int i = 0; i < 20; i++)
		peer_send(&peer, request, (size_t)n);
	for (int i = 0; i < 20; i++)
		peer_until(&peer, "hey\"}]}}");
}

Test(demo_http, progress_makes_the_answer_a_stream)
{
	initialize(&peer, "2025-11-25");
	post(&peer, CALL("sleep", "{\"milliseconds\":3,\"steps\":3}"));
	cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"),
	    "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
	    "Transfer-Encoding: chunked\r\n"));
	peer_until(&peer, "step 1 of 3");
	peer_until(&peer, "step 2 of 3");
	peer_until(&peer, "step 3 of 3");
	peer_until(&peer, "slept 3 ms\"}]}}\n\n\r\n0\r\n\r\n");
	post(&peer, ECHO);
	cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"), "application/json"));
}

Test(demo_http, events_are_framed_by_chunks_of_their_length)
{
	initialize(&peer, "2025-11-25");
	post(&peer, CALL("log", "{\"level\":\"error\",\"text\":\"loud\"}"));
	peer_until(&peer, "\r\n\r\n");
	for (unsigned size = 1; size > 0;) {
		cr_assert_eq(sscanf(peer_until(&peer, "\r\n"), "%x\r\n", &size), 1);
		while (peer.n < size + 2)
			cr_assert(peer_read(&peer));
		cr_assert_eq(strncmp(peer.text + size, "\r\n", 2), 0);
		if (size > 0)
			cr_assert_eq(strncmp(peer.text, "event: message\ndata: {", 22), 0);
		memmove(peer.text, peer.text + size + 2, peer.n - size - 2);
		peer.n -= size + 2;
	}
	cr_assert_eq(peer.n, 0);
}

Test(demo_http, ask_is_answered_by_another_connection)
{
	initialize(&peer, "2025-11-25");
	post(&peer, CALL("ask", "{\"question\":\"Colour?\"}"));
	peer_until(&peer, "\"method\":\"elicitation/create\"");
	peer_open(&other);
	post(&other, "{\"jsonrpc\":\"2.0\",\"id\":\"ask-1\",\"result\":{\"action\":\"accept\","
		     "\"content\":{\"answer\":\"blue\"}}}");
	cr_assert_not_null(strstr(peer_until(&other, "\r\n\r\n"), "HTTP/1.1 202 "));
	peer_until(&peer, "\"text\":\"blue\"");
}

Test(demo_http, a_cancelled_request_ends_its_stream_without_an_answer)
{
	initialize(&peer, "2025-11-25");
	post(&peer, CALL("sleep", "{\"milliseconds\":3600000}"));
	peer_open(&other);
	post(&other, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{"
		     "\"requestId\":1}}");
	cr_assert_null(strstr(peer_until(&peer, "\r\n0\r\n\r\n"), "\"id\":1"));
}

Test(demo_http, subscribers_are_told_on_their_stream)
{
	initialize(&peer, "2025-11-25");
	post(&peer, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/subscribe\",\"params\":{"
		    "\"uri\":\"demo://greeting\"}}");
	peer_until(&peer, "\"result\":{}}");
	peer_open(&other);
	open_stream(&other);
	post(&peer, CALL("touch_resource", "{}"));
	peer_until(&other, "notifications/resources/updated");
}

Test(demo_http, delete_ends_the_session_its_streams_and_its_calls)
{
	struct peer *third = calloc(1, sizeof(*third));
	char request[256];

	initialize(&peer, "2025-11-25");
	peer_open(&other);
	open_stream(&other);
	post(&peer, CALL("sleep", "{\"milliseconds\":3600000,\"steps\":1}"));
	peer_open(third);
	int n = snprintf(request, sizeof(request),
	    "DELETE /mcp HTTP/1.1\r\nHost: x\r\nMcp-Session-Id: %s\r\n\r\n", session);
	peer_send(third, request, (size_t)n);
	cr_assert_not_null(strstr(peer_until(third, "\r\n\r\n"), "HTTP/1.1 200 "));
	cr_assert_not_null(strstr(peer_until(&other, "0\r\n\r\n"), "0\r\n\r\n"));
	peer_until(&peer, "The session ended");
	post(third, ECHO);
	cr_assert_not_null(strstr(peer_until(third, "\r\n\r\n"), "HTTP/1.1 404 "));
	close(third->fd);
	free(third);
}

Test(demo_http, a_batch_is_answered_by_an_array_or_by_events)
{
	initialize(&peer, "2025-03-26");
	post(&peer, "[" ECHO ",{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}]");
	cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"), "application/json"));
	peer_until(&peer, "[{\"jsonrpc\"");
	peer_until(&peer, "},{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}]");
	post(&peer, "[{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}," CALL(
			"sleep", "{\"milliseconds\":1,\"steps\":1}") "]");
	cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"), "event-stream"));
	peer_until(&peer, "data: [{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}]\n\n");
	peer_until(&peer, "notifications/progress");
	peer_until(&peer, "slept");
	peer_until(&peer, "\r\n0\r\n\r\n");
	post(&peer, "[]");
	cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"), "HTTP/1.1 400 "));
}

Test(demo_http, a_large_answer_is_whole_however_slowly_it_is_read)
{
	size_t got = 0, body;

	initialize(&peer, "2025-11-25");
	post(&peer, CALL("big", "{\"bytes\":20000000}"));
	const char *head = peer_until(&peer, "\r\n\r\n");
	cr_assert_eq(sscanf(strstr(head, "Content-Length:"), "Content-Length: %zu", &body), 1);
	cr_assert_gt(body, (size_t)20000000);
	for (got = peer.n; got < body; got += peer.n) {
		peer.n = 0;
		cr_assert(peer_read(&peer));
	}
	cr_assert_eq(got, body);
	peer.text[0] = peer.text[peer.n - 1];
	peer.n = 1;
	post(&peer, ECHO);
	peer_until(&peer, "}HTTP/1.1 200 OK");
}

Test(demo_http, a_client_that_leaves_takes_its_calls_along)
{
	initialize(&peer, "2025-11-25");
	/* More than a session may run at once: so those of closed connections are gone. */
	for (int i = 0; i < 300; i++) {
		peer_open(&other);
		post(&other, CALL("ask", "{\"question\":\"?\"}"));
		peer_until(&other, "elicitation/create");
		close(other.fd);
	}
}

Test(demo_http, http_1_0_gets_one_answer_and_a_stream_without_chunks)
{
	char request[512];

	initialize(&peer, "2025-11-25");
	peer_open(&other);
	int n = snprintf(request, sizeof(request),
	    "POST /mcp HTTP/1.0\r\n" HEADER "Mcp-Session-Id: %s\r\nContent-Length: %zu\r\n\r\n%s",
	    session, strlen(CALL("sleep", "{\"milliseconds\":1,\"steps\":1}")),
	    CALL("sleep", "{\"milliseconds\":1,\"steps\":1}"));
	peer_send(&other, request, (size_t)n);
	const char *head = peer_until(&other, "\r\n\r\n");
	cr_assert_null(strstr(head, "chunked"));
	cr_assert_not_null(strstr(head, "Connection: close"));
	cr_assert_eq(strncmp(peer_until(&other, "\n\n"), "event: message\ndata: ", 21), 0);
	peer_until(&other, "slept");
	peer_expect_end(&other);
}

Test(demo_http, whoever_waits_for_100_continue_gets_it)
{
	char request[512];

	initialize(&peer, "2025-11-25");
	int n = snprintf(request, sizeof(request),
	    "POST /mcp HTTP/1.1\r\n" HEADER
	    "Expect: 100-continue\r\nMcp-Session-Id: %s\r\nContent-Length: %zu\r\n\r\n",
	    session, strlen(ECHO));
	peer_send(&peer, request, (size_t)n);
	cr_assert_str_eq(peer_until(&peer, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
	peer_send(&peer, ECHO, strlen(ECHO));
	peer_until(&peer, "hello");
}

Test(demo_http, sse_can_be_had_for_every_answer)
{
	tear_down();
	start("--sse");
	peer_open(&peer);
	initialize(&peer, "2025-11-25");
	peer_until(&peer, "\r\n0\r\n\r\n");
	post(&peer, ECHO);
	cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"), "text/event-stream"));
	peer_until(&peer, "hello\"}]}}\n\n\r\n0\r\n\r\n");
	post(&peer, CALL("sleep", "{\"milliseconds\":3600000,\"steps\":1}"));
	cr_assert_not_null(strstr(peer_until(&peer, "\r\n\r\n"), "text/event-stream"));
}

Test(demo_command, wrong_usage_is_2)
{
	static const char *const rows[][4] = {
	    {"demo-server", "--none"},
	    {"demo-server", "word"},
	    {"demo-server", "--sse"},
	    {"demo-server", "--http"},
	    {"demo-server", "--http", "127.0.0.1"},
	    {"demo-server", "--http", "127.0.0.1:00"},
	    {"demo-server", "--http", "example.org:80"},
	    {"demo-server", "--max-sessions", "0"},
	    {"demo-server", "--max-sessions", "-1"},
	    {"demo-server", "--max-sessions", "1x"},
	};

	cr_assert_not_null(freopen("/dev/null", "w", stderr));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *argv[5] = {NULL};
		int argc = 0;

		for (; argc < 4 && rows[i][argc]; argc++)
			argv[argc] = (char *)rows[i][argc];
		cr_expect_eq(demo_main(argc, argv), 2, "%s", argv[argc - 1]);
	}
}
