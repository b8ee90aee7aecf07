/* demo: see demo.h. Reads the command line and runs one of the two transports. */
#include "master/demo/demo.h"

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/address.h"
#include "master/demo/endpoint.h"
#include "master/demo/http.h"
#include "master/demo/stdio.h"

enum { EXIT_USAGE = 2, SESSIONS_DEFAULT = 10000, SESSIONS_MAX = 1000000 };

static const char usage[] =
    "usage: margay demo-server [--http ADDRESS] [--sse] [--max-sessions N]\n"
    "\n"
    "A small MCP server to try Margay with. Speaks stdio unless --http is given.\n"
    "\n"
    "  --http ADDRESS    serve http://ADDRESS" ENDPOINT_PATH "; 127.0.0.1:8090, [::1]:8090;\n"
    "                    port 0 takes a free one\n"
    "  --sse             answer every POST by an event stream\n"
    "  --max-sessions N  keep at most N sessions, 1 to 1000000 (default 10000)\n"
    "  --help            print this\n"
    "\n"
    "SIGTERM and SIGINT end it. Exit codes: 0, 1 when it could not serve, 2 for wrong usage.\n";

struct options {
	const char *http; /* NULL: stdio */
	struct sockaddr_storage address;
	socklen_t length;
	bool sse;
	unsigned sessions;
	bool help;
};

/* As address_parse, but port 0 may be asked for. */
static int parse_http(const char *text, struct options *o)
{
	const char *port = strrchr(text, ':');
	char with_port[ADDRESS_TEXT_MAX];

	if (!port || strcmp(port, ":0") != 0)
		return address_parse(text, &o->address, &o->length);
	int n = snprintf(with_port, sizeof(with_port), "%.*s:1", (int)(port - text), text);
	if (n < 0 || (size_t)n >= sizeof(with_port) ||
	    address_parse(with_port, &o->address, &o->length) != 0)
		return -EINVAL;
	/* sin_port and sin6_port stand at the same place. */
	((struct sockaddr_in *)(void *)&o->address)->sin_port = 0;
	return 0;
}

static int parse_sessions(const char *text, unsigned *out)
{
	char *end;

	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || n < 1 || n > SESSIONS_MAX)
		return -EINVAL;
	*out = (unsigned)n;
	return 0;
}

static int wrong(const char *what, const char *value)
{
	fprintf(stderr, "demo-server: %s %s\n", what, value);
	return EXIT_USAGE;
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option table[] = {{"http", required_argument, NULL, 'a'},
	    {"sse", no_argument, NULL, 's'}, {"max-sessions", required_argument, NULL, 'n'},
	    {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (c == 'a') {
			o->http = optarg;
			if (parse_http(optarg, o) != 0)
				return wrong("--http needs HOST:PORT, not", optarg);
		} else if (c == 's') {
			o->sse = true;
		} else if (c == 'n') {
			if (parse_sessions(optarg, &o->sessions) != 0)
				return wrong("--max-sessions must be 1 to 1000000, not", optarg);
		} else if (c == 'h') {
			o->help = true;
		} else {
			fputs("Try 'margay demo-server --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return wrong("unexpected word", argv[optind]);
	if (o->sse && !o->http)
		return wrong("--sse needs", "--http");
	return 0;
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static int serve_http(struct server *server, const struct options *o)
{
	struct http_server *http = malloc(sizeof(*http));
	struct sockaddr_storage bound;
	char text[ADDRESS_TEXT_MAX];
	int error = http ? http_start(http, server, &o->address, o->length) : -ENOMEM;

	if (!error) {
		error = http_address(http, &bound);
		if (!error) {
			address_format(&bound, text);
			fprintf(
			    stderr, "demo-server: listening on http://%s" ENDPOINT_PATH "\n", text);
			fflush(stderr);
			ev_run(server->loop, 0);
		}
		http_stop(http);
	}
	free(http);
	if (error)
		fprintf(stderr, "demo-server: %s: %s\n", o->http, strerror(-error));
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int serve_stdio(struct server *server)
{
	struct stdio_server *io = malloc(sizeof(*io));
	int error = io ? stdio_start(io, server, STDIN_FILENO, STDOUT_FILENO) : -ENOMEM;

	if (!error) {
		ev_run(server->loop, 0);
		stdio_stop(io);
	}
	free(io);
	if (error)
		fprintf(stderr, "demo-server: stdio: %s\n", strerror(-error));
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* As many descriptors as it may have: each stream of a session holds one. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	/* Accepting pauses when descriptors run out. */
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

int demo_main(int argc, char **argv)
{
	struct options o = {.sessions = SESSIONS_DEFAULT};
	struct server server = {0};
	ev_signal terminate, interrupt;

	int code = parse_options(argc, argv, &o);
	if (code)
		return code;
	if (o.help) {
		fputs(usage, stdout);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	server.loop = ev_loop_new(EVFLAG_AUTO);
	if (!server.loop) {
		fputs("demo-server: no event loop\n", stderr);
		return EXIT_FAILURE;
	}
	server.stdio = !o.http;
	server.sse = o.sse;
	session_table_init(&server.sessions, o.sessions);
	ev_signal_init(&terminate, on_signal, SIGTERM);
	ev_signal_init(&interrupt, on_signal, SIGINT);
	ev_signal_start(server.loop, &terminate);
	ev_signal_start(server.loop, &interrupt);
	code = o.http ? serve_http(&server, &o) : serve_stdio(&server);
	session_table_release(&server.sessions);
	ev_signal_stop(server.loop, &terminate);
	ev_signal_stop(server.loop, &interrupt);
	ev_loop_destroy(server.loop);
	return code;
}
