/* connect: `margay connect`, a gateway for the one client on stdin and stdout. See supervisor.h. */
#include <getopt.h>
#include <stdio.h>

#include "common/exit_code.h"
#include "master/supervisor/supervisor.h"

static const char usage[] =
    "margay: say where to connect to: margay connect http://HOST:PORT/PATH\n";

int connect_main(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"header", required_argument, NULL, 'H'}, {"sse", no_argument, NULL, 's'}, {0}};
	const char *headers[SOURCE_HEADERS_MAX + 1] = {NULL};
	struct source_options source = {.connects = true, .headers = headers};
	unsigned count = 0;
	int c;

	while ((c = getopt_long(argc, argv, "H:", longs, NULL)) != -1) {
		if (c == 'H' && count < SOURCE_HEADERS_MAX && source_header_is_good(optarg)) {
			headers[count++] = optarg;
		} else if (c == 's') {
			source.sse = true;
		} else if (c == 'H') {
			fprintf(stderr, "margay: --header takes `NAME: VALUE`, at most %d times\n",
			    SOURCE_HEADERS_MAX);
			return EXIT_USAGE;
		} else {
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	source.upstream = argv[optind];
	return supervisor_serve(&source, false);
}
