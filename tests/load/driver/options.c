/* options: see options.h. */
#include "tests/load/driver/options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/address.h"
#include "tests/load/numbers.h"

enum { CLIENTS_MAX = 100000, TIME_MAX = 3600000 };

static const char usage[] =
    "usage: margay-load --url http://ADDRESS:PORT/PATH [OPTION VALUE]...\n"
    "\n"
    "  --keepalive N   clients that keep a connection (default 0)\n"
    "  --connects N    clients that open one for each request (default 0)\n"
    "  --streams N     clients that hold an event stream (default 0)\n"
    "  --era ERA       legacy, modern or both (default): every second client each\n"
    "  --rate N        calls a second of each client (default 0: as fast as answered)\n"
    "  --seconds N     how long (default 0: until SIGTERM or SIGINT)\n"
    "  --calls N       of each client, then it ends (default 0: no end)\n"
    "  --late MS, --timeout MS, --connect-timeout MS, --reopen MS, --silence MS\n"
    "                  what is a failure (1000, 10000, 10000, 5000, 5000; 0: never)\n"
    "  --rows N        failures that are listed (default 200)\n"
    "  --windows FILE  one line of JSON for each 100 ms\n"
    "\n"
    "SIGUSR1 prints what there is so far. tests/load/README.md says what is counted.\n";

static int parse_era(const char *text, struct options *o)
{
	o->legacy = strcmp(text, "modern") != 0;
	o->modern = strcmp(text, "legacy") != 0;
	return o->legacy && o->modern && strcmp(text, "both") != 0 ? -EINVAL : 0;
}

static int parse_url(const char *text, struct options *o)
{
	struct sockaddr_storage address;
	socklen_t length;

	if (strlen(text) >= URL_TEXT_MAX ||
	    sscanf(text, "http://%127[^/]%127s", o->host, o->path) != 2)
		return -EINVAL;
	if (address_parse(o->host, &address, &length) || address.ss_family != AF_INET)
		return -EINVAL;
	memcpy(&o->address, &address, sizeof(o->address));
	return 0;
}

static int parse_windows(const char *text, struct options *o)
{
	o->windows = text;
	return 0;
}

static const struct row {
	const char *name;
	int (*parse)(const char *text, struct options *o); /* NULL: a number */
	size_t offset;                                     /* of the number */
	unsigned max;
} table[] = {
    {"--url", parse_url},
    {"--era", parse_era},
    {"--windows", parse_windows},
    {"--keepalive", NULL, offsetof(struct options, keepalive), CLIENTS_MAX},
    {"--connects", NULL, offsetof(struct options, connects), CLIENTS_MAX},
    {"--streams", NULL, offsetof(struct options, streams), CLIENTS_MAX},
    {"--rate", NULL, offsetof(struct options, rate), 1000000},
    {"--seconds", NULL, offsetof(struct options, seconds), 1000000},
    {"--calls", NULL, offsetof(struct options, calls), 1000000000},
    {"--late", NULL, offsetof(struct options, late), TIME_MAX},
    {"--timeout", NULL, offsetof(struct options, timeout), TIME_MAX},
    {"--connect-timeout", NULL, offsetof(struct options, connect_timeout), TIME_MAX},
    {"--reopen", NULL, offsetof(struct options, reopen), TIME_MAX},
    {"--silence", NULL, offsetof(struct options, silence), TIME_MAX},
    {"--rows", NULL, offsetof(struct options, rows), 1000000},
};

static int take(const char *name, const char *value, struct options *o)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct row *row = &table[i];
		if (strcmp(row->name, name) != 0)
			continue;
		if (row->parse)
			return row->parse(value, o);
		return number_parse(
		    value, 0, row->max, (unsigned *)(void *)((char *)o + row->offset));
	}
	return -EINVAL;
}

int options_parse(int argc, char **argv, struct options *o)
{
	int error = argc % 2 == 0 ? -EINVAL : 0;

	*o = (struct options){.legacy = true,
	    .modern = true,
	    .late = 1000,
	    .timeout = 10000,
	    .connect_timeout = 10000,
	    .reopen = 5000,
	    .silence = 5000,
	    .rows = 200};
	for (int i = 1; i < argc && !error; i += 2) {
		error = take(argv[i], argv[i + 1], o);
		if (error)
			fprintf(stderr, "margay-load: %s %s\n", argv[i], argv[i + 1]);
	}
	if (!error && (!o->path[0] || o->keepalive + o->connects + o->streams == 0))
		error = -EINVAL;
	if (error)
		fputs(usage, stderr);
	return error;
}
