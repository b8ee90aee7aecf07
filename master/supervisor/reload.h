/*
 * reload: a new configuration taken into service as a transaction. See supervisor.h.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_RELOAD_H
#define MARGAY_MASTER_SUPERVISOR_RELOAD_H

#include <stdbool.h>

struct checker;
struct generation;
struct supervisor;

/* The reload under way and the last one's result. */
struct reload {
	struct checker *checker;
	struct generation *next; /* starting */
	bool again;              /* another was asked for meanwhile */
	bool ok;                 /* the last one */
	double time;             /* Unix time of the last one's end */
	struct cJSON *errors;    /* of the last one: array of objects */
	char message[256];
	char back[160]; /* why the one under way returns to an older configuration; empty: not */
};

/* Start one, or note that another is wanted. */
void reload_request(struct supervisor *s);
bool reload_busy(const struct supervisor *s);
/* Run the one that had to wait for something else, if any. */
void reload_deferred(struct supervisor *s);
void reload_ready(struct supervisor *s);
void reload_failed(struct supervisor *s, const char *why);
/* Start a generation from these bytes, which passed before; the result is told as `why`. */
void reload_back(struct supervisor *s, int config_fd, const char *why);
void reload_cancel(struct supervisor *s);

#endif
