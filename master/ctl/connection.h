/* connection: one request to the control socket and its reply. Blocks: a command has nothing else
 * to do. */
#ifndef MARGAY_MASTER_CTL_CONNECTION_H
#define MARGAY_MASTER_CTL_CONNECTION_H

#include "common/attributes.h"

struct cJSON;

/* What every command of ctl.h takes. */
struct ctl_options {
	const char *config, *runtime_dir;
	int json;
};

/* 0, or an exit code after a message on stderr. `json`: whether --json is an option of this
 * command. */
int ctl_parse_options(int argc, char **argv, int json, struct ctl_options *out) MUST_CHECK;
/*
 * Send {"command": `command`} and wait for the reply (the caller's). *fd stays open: its end tells
 * that the master ended. 0, or an exit code after a message on stderr.
 */
int ctl_request(const struct ctl_options *options, const char *command, struct cJSON **reply,
    int *fd) MUST_CHECK;

#endif
