/*
 * admission_fuzz: whatever a client POSTs, it is taken for a message of one era, and what is done
 * with it is that era's.
 *
 * Each input: a byte that says of which era the upstream is and what is asked (POST, GET, DELETE),
 * then header lines, an empty line, the body. A whole worker serves it; its upstream is this
 * program. What reaches the upstream is a whole request with a message of the upstream's era; what
 * comes back to the client is a whole answer, and no code of the stateless era for one who did not
 * speak so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/http/conn.h"
#include "worker/mcp/era.h"
#include "worker/mcp/exchange.h"
#include "worker/policy/clients.h"
#include "worker/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT = 256 * 1024, TURNS = 5, ROUNDS = 6 };

static struct worker *w;
static struct config_listen listen_config;
static struct listener listener = {.config = &listen_config};
static int upstream_end = -1; /* ours, of the connection that the worker opened last */
static char said[TEXT], text[TEXT];

static void must(bool good)
{
	if (!good)
		abort();
}

static int dial(struct upstream *u)
{
	int pair[2];

	(void)u;
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	if (upstream_end >= 0)
		close(upstream_end);
	upstream_end = pair[1];
	return pair[0];
}

static void open_worker(void)
{
	static const char yaml[] =
	    "upstreams: {main: {http: {url: 'http://127.0.0.1:1/mcp'}}}\n"
	    "routes: {/mcp: {upstream: main}, /old: {upstream: main, http_sse: true}}\n"
	    "timeouts: {upstream_connect: 10m}\nlog: {access: false}\n";
	static const struct config_defaults defaults = {.runtime_dir = "/tmp", .connected = true};
	static const struct log_options nowhere = {.level = LOG_LEVEL_ERROR, .file = "/dev/null"};
	static struct listener_set none;
	static struct role_boot boot = {
	    .broker_path = "/nowhere/broker", .keeper_path = "/nowhere/keeper", .listeners = &none};
	struct config_errors errors;
	struct config *config;
	int channel[2];

	must(config_parse(span_of(yaml), &defaults, &config, &errors) == 0);
	must(metrics_create(&boot.metrics) == 0 && log_open(&nowhere, "fuzz", &boot.log) == 0);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, channel) == 0);
	metrics_label(boot.metrics, config);
	boot.metrics_slot = metrics_slot_take(boot.metrics, METRIC_SLOT_WORKER, 0, 1);
	boot.channel = channel[0];
	boot.config = config;
	must(worker_open(&boot, &w) == 0);
	w->upstreams[0].dial = dial;
	listen_config.address.storage.ss_family = AF_INET;
	listen_config.hosts = (char *[]){(char *)(uintptr_t) "*"};
}

/* Header lines as the input has them, without what frames the request. */
static size_t put_fields(char *out, size_t room, struct span lines)
{
	static const char *const framing[] = {
	    "content-length", "transfer-encoding", "host", "connection", "expect"};
	size_t n = 0;

	while (lines.n > 0) {
		const char *end = memchr(lines.p, '\n', lines.n);
		struct span line = {lines.p, end ? (size_t)(end - lines.p) : lines.n};
		bool bad = line.n == 0 || n + line.n + 2 >= room;
		for (size_t i = 0; i < line.n; i++)
			bad |= line.p[i] < ' ' || line.p[i] > '~';
		for (size_t i = 0; i < sizeof(framing) / sizeof(framing[0]); i++)
			bad |= line.n >= strlen(framing[i]) &&
			       strncasecmp(line.p, framing[i], strlen(framing[i])) == 0;
		if (!bad) {
			memcpy(out + n, line.p, line.n);
			memcpy(out + n + line.n, "\r\n", 2);
			n += line.n + 2;
		}
		size_t used = line.n + (end != NULL);
		lines = (struct span){lines.p + used, lines.n - used};
	}
	return n;
}

static void turn(void)
{
	for (int i = 0; i < TURNS; i++)
		ev_run(w->loop, EVRUN_NOWAIT);
}

/* Whether the request says of itself that it is of the stateless era. */
static bool is_modern(const char *request)
{
	static struct envelope e;
	struct envelope_fault fault;
	const char *body = strstr(request, "\r\n\r\n") + 4;
	const char *field = strcasestr(request, "\r\nmcp-protocol-version:");

	if (field && field < body) {
		field += strlen("\r\nmcp-protocol-version:");
		field += strspn(field, " \t");
		if (strncmp(field, MCP_STATELESS, strlen(MCP_STATELESS)) >= 0)
			return true;
	}
	return !envelope_scan(span_of(body), 64, &e, &fault) && e.meta_version.p;
}

/* What the worker asked of its upstream: check it, and answer. False when there was nothing. */
static bool serve_upstream(bool modern)
{
	static struct envelope e;
	struct envelope_fault fault;
	char answer[1024];
	ssize_t n =
	    upstream_end < 0 ? -1 : recv(upstream_end, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *body = strstr(text, "\r\n\r\n"), *length = strstr(text, "\r\nContent-Length: ");
	must(body && strncmp(text, "POST /mcp HTTP/1.1\r\n", 20) == 0);
	body += 4;
	must(length && (size_t)atol(length + 18) == (size_t)(text + n - body));
	must(!envelope_scan((struct span){body, (size_t)(text + n - body)}, 70, &e, &fault) ||
	     fault.code == -32600 || body[0] == '[');
	bool discover = span_equal(e.method, SPAN("server/discover"));
	if (discover && !modern) {
		n = snprintf(
		    answer, sizeof(answer), "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n");
	} else {
		bool initialize = span_equal(e.method, SPAN("initialize"));
		/* A legacy client's handshake is passed on to find out. */
		must(initialize || (e.meta_version.p != NULL) == modern);
		const char *result =
		    discover
			? "{\"resultType\":\"complete\",\"supportedVersions\":[\"2026-07-28\"],"
			  "\"capabilities\":{}}"
		    : initialize ? "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{},"
				   "\"serverInfo\":{}}"
				 : "{\"tools\":[]}";
		char message[768];
		int m = snprintf(message, sizeof(message),
		    "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":%s}",
		    e.id.n < 64 ? (int)e.id.n : 0, e.id.p ? e.id.p : "", result);
		n = snprintf(answer, sizeof(answer),
		    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
		    "%d\r\n\r\n%s",
		    m, message);
	}
	must(send(upstream_end, answer, (size_t)n, MSG_NOSIGNAL) == n);
	return true;
}

static void check_answer(ssize_t n, bool modern)
{
	text[n] = '\0';
	must(strncmp(text, "HTTP/1.1 ", 9) == 0 && strstr(text, "\r\n\r\n"));
	const char *code = strstr(text, "\"code\":-3202");
	must(modern || !code || strstr("012", (char[]){code[12], '\0'}) == NULL);
}

static void close_all(int client)
{
	close(client);
	if (upstream_end >= 0)
		close(upstream_end);
	upstream_end = -1;
	for (int i = 0; i < ROUNDS; i++)
		turn();
	must(w->conn_count == 0 && TAILQ_EMPTY(&w->exchanges) && LIST_EMPTY(&w->errands));
	era_close(w);
	era_forget(&w->upstreams[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const verbs[] = {"POST", "POST", "GET", "DELETE"};
	static const struct sockaddr_storage peer = {.ss_family = AF_INET};
	int pair[2];

	if (!w)
		open_worker();
	if (size < 2 || size > 32768)
		return 0;
	bool upstream_modern = data[0] & 1;
	struct span rest = {(const char *)data + 1, size - 1};
	const char *cut = memmem(rest.p, rest.n, "\n\n", 2);
	struct span lines = {rest.p, cut ? (size_t)(cut - rest.p) : 0};
	struct span body = cut ? (struct span){cut + 2, rest.n - lines.n - 2} : rest;
	size_t n = (size_t)snprintf(said, sizeof(said),
	    "%s /%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	    "Accept: application/json, text/event-stream\r\n",
	    verbs[data[0] >> 1 & 3], data[0] & 8 ? "old" : "mcp");
	n += put_fields(said + n, sizeof(said) / 2, lines);
	n += (size_t)snprintf(said + n, sizeof(said) - n, "Content-Length: %zu\r\n\r\n", body.n);
	memcpy(said + n, body.p, body.n);
	n += body.n;
	said[n] = '\0';

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	struct client_count *client = clients_acquire(w->clients, &peer, 0);
	must(client && conn_open(w, &listener, &exchange_handler, pair[1], client));
	must(send(pair[0], said, n, MSG_NOSIGNAL) == (ssize_t)n);
	turn();
	for (int i = 0; i < ROUNDS && serve_upstream(upstream_modern); i++)
		turn();
	ssize_t got = recv(pair[0], text, sizeof(text) - 1, MSG_DONTWAIT);
	if (got > 0)
		check_answer(got, is_modern(said));
	close_all(pair[0]);
	return 0;
}
