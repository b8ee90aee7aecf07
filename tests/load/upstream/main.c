/* margay-load-upstream: the command line of the fast upstream; see server.h and
 * tests/load/README.md. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/load/numbers.h"
#include "tests/load/upstream/server.h"

enum { PORT_MAX = 65535, BYTES_MAX = 16 << 20, EVERY_MAX = 3600000, SESSIONS_MAX = 1000000 };

static const char usage[] =
    "usage: margay-load-upstream [--port PORT] [--bytes N] [--every MS] [--sessions N] [--sse]\n"
    "                            [--era legacy|modern|both]\n";

static int parse_era(const char *text, struct server_options *o)
{
	o->legacy = strcmp(text, "modern") != 0;
	o->modern = strcmp(text, "legacy") != 0;
	return o->legacy && o->modern && strcmp(text, "both") != 0 ? -1 : 0;
}

static int parse_options(int argc, char **argv, struct server_options *o)
{
	static const struct option table[] = {{"port", required_argument, NULL, 'p'},
	    {"bytes", required_argument, NULL, 'b'}, {"every", required_argument, NULL, 'e'},
	    {"sessions", required_argument, NULL, 'n'}, {"era", required_argument, NULL, 'r'},
	    {"sse", no_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
	int error = 0;

	for (int c; !error && (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
		if (c == 'p')
			error = number_parse(optarg, 0, PORT_MAX, &o->port);
		else if (c == 'b')
			error = number_parse(optarg, 0, BYTES_MAX, &o->bytes);
		else if (c == 'e')
			error = number_parse(optarg, 1, EVERY_MAX, &o->every);
		else if (c == 'n')
			error = number_parse(optarg, 1, SESSIONS_MAX, &o->sessions);
		else if (c == 'r')
			error = parse_era(optarg, o);
		else if (c == 's')
			o->sse = true;
		else
			error = -1;
	}
	return error || optind < argc ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct server s = {.fd = -1,
	    .options = {
		.bytes = 200, .every = 20, .sessions = 100000, .legacy = true, .modern = true}};

	if (parse_options(argc, argv, &s.options)) {
		fputs(usage, stderr);
		return 2;
	}
	s.loop = ev_default_loop(EVFLAG_AUTO);
	int error = s.loop ? server_start(&s) : -1;
	if (error) {
		fprintf(stderr, "margay-load-upstream: %s\n", strerror(-error));
		server_stop(&s);
		return 1;
	}
	printf("listening on http://127.0.0.1:%u/mcp\n", s.options.port);
	fflush(stdout);
	ev_run(s.loop, 0);
	printf("{\"connections\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"calls\":%" PRIu64
	       ",\"events\":%" PRIu64 ",\"sessions\":%u}\n",
	    s.counts.connections, s.counts.requests, s.counts.calls, s.counts.events,
	    HASH_COUNT(s.sessions.table));
	server_stop(&s);
	ev_loop_destroy(s.loop);
	return 0;
}
