/*
 * cgroup: a control group (v2) for each child, where the system lets us make them.
 *
 * It does when it has delegated our own group (systemd: Delegate=yes, which sets user.delegate on
 * it). Then memory and processes of a child are bounded with all that descends from it, and all of
 * it can be killed at once. Elsewhere rlimits have to do.
 */
#ifndef MARGAY_MASTER_KEEPER_CGROUP_H
#define MARGAY_MASTER_KEEPER_CGROUP_H

#include "common/config/config.h"

enum { CGROUP_PATH_MAX = 512 };

struct cgroup {
	char root[CGROUP_PATH_MAX]; /* ours, delegated; empty: none */
	char text[160];             /* for operators: what limits children */
};

/* Find our group; when it is delegated, move into a leaf of it and hand the controllers down. */
void cgroup_open(struct cgroup *g);
/* Make the group of a child, with its limits; its mark (NAME=VALUE) names it. The descriptor that a
 * process joins by writing "0", or -1 when there are no groups. */
int cgroup_join(const struct cgroup *g, const char *mark, const struct config_stdio *stdio);
void cgroup_kill(const struct cgroup *g, const char *mark);
/* The child is gone: kill the rest of its group and remove it, or try to: again, until it is empty.
 */
void cgroup_leave(const struct cgroup *g, const char *mark);

#endif
