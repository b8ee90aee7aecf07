/*
 * source: where the configuration comes from: a file, a desktop client's list of servers, or the
 * command line itself.
 *
 * The last two need no more than they say: Margay then listens on a free port of 127.0.0.1, uses a
 * directory of its own that it removes at the end, and logs warnings as text.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_SOURCE_H
#define MARGAY_MASTER_SUPERVISOR_SOURCE_H

#include <stdbool.h>

#include "common/config/config.h"

struct source {
	char *path;         /* absolute; NULL: the command line */
	struct buffer text; /* what the command line means */
	struct config_defaults defaults;
	char *directory; /* the one of its own; NULL: the configuration names one */
	char listen[32];
};

enum { SOURCE_HEADERS_MAX = 32 };

/* What `margay run` or `margay connect` was told, the rest zero. */
struct source_options {
	const char *config, *mcp_servers, *upstream;
	char **command;             /* ended by NULL; NULL: none */
	bool connects;              /* `margay connect`: to `upstream`, for the client on stdin */
	bool sse;                   /* which speaks HTTP+SSE (2024-11-05) */
	const char *const *headers; /* of it: `NAME: VALUE`, ended by NULL; NULL: none */
	const char *port;
};

/* Whether it is `NAME: VALUE`. */
bool source_header_is_good(const char *text);
/* 0 or -errno with `why` filled; *out is to be closed in both cases. */
int source_open(
    const struct source_options *options, struct source *out, char *why, size_t size) MUST_CHECK;
void source_close(struct source *s);
/* For messages. */
const char *source_name(const struct source *s);
/* Its bytes as they are now. 0 or -errno. `again`: they were read before, and nobody waits now. */
int source_read(const struct source *s, bool again, struct buffer *out) MUST_CHECK;
/* Margay listens: say on stdout where clients connect to, unless a configuration said it. */
void source_announce(const struct source *s, const struct config *config);

#endif
