/* options: the command line of the load driver. */
#ifndef MARGAY_TESTS_LOAD_DRIVER_OPTIONS_H
#define MARGAY_TESTS_LOAD_DRIVER_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>

#include "common/attributes.h"

enum { URL_TEXT_MAX = 128 };

/* Times in milliseconds, but for `seconds`. */
struct options {
	struct sockaddr_in address;
	char host[URL_TEXT_MAX], path[URL_TEXT_MAX]; /* of the URL; host with its port */
	bool legacy, modern;
	unsigned keepalive, connects, streams; /* clients */
	unsigned seconds;                      /* 0: until a signal */
	unsigned calls;                        /* of each client; 0: no end */
	unsigned rate;                         /* calls a second of each client; 0: no pause */
	unsigned late, timeout, connect_timeout, reopen, silence;
	unsigned rows;
	const char *windows; /* path, or NULL */
};

/* 0, or -EINVAL when usage was printed. */
int options_parse(int argc, char **argv, struct options *o) MUST_CHECK;

#endif
