/* connection: one request to the control socket and its reply. Blocks: a command has nothing else
 * to do. */
#ifndef MARGAY_MASTER_CTL_CONNECTION_H
#define MARGAY_MASTER_CTL_CONNECTION_H

#include "common/attributes.h"

struct cJSON;

/* What every command of ctl.h takes. */
struct ctl_options {
	const char *config, *runtime_dir;
	const char *operand; /* of a command that takes one, else NULL */
	const char *key;     /* of it in the request */
	int json;
};

enum { CTL_JSON = 1 /* --json is an option */, CTL_OPTIONAL = 2 /* the operand is */ };

/* 0, or an exit code after a message on stderr. `takes`: what this command does (CTL_...);
 * `operand`: what is named beside the options, its key in the request, or NULL. */
int ctl_parse_options(
    int argc, char **argv, int takes, const char *operand, struct ctl_options *out) MUST_CHECK;
/*
 * Send {"command": `command`}, with the operand under its key if there is one, and wait for the
 * reply (the caller's). *fd stays open: its end tells that the master ended. 0, or an exit code
 * after a message on stderr.
 */
int ctl_request(const struct ctl_options *options, const char *command, struct cJSON **reply,
    int *fd) MUST_CHECK;

#endif
