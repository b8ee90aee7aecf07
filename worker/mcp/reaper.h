/*
 * reaper: ends an upstream's side of sessions that are over on ours.
 *
 * A DELETE to the upstream with nobody waiting for its answer. At most REAPER_MAX are under way in
 * a worker; beyond that the upstream's own idle time-out has to do. What an upstream answers is not
 * an error: it may refuse (405).
 */
#ifndef MARGAY_WORKER_MCP_REAPER_H
#define MARGAY_WORKER_MCP_REAPER_H

#include "common/ipc/broker_proto.h"

struct worker;

void reaper_end_upstream(struct worker *w, const struct session_record *record);
/* Give up on those under way. */
void reaper_close(struct worker *w);

#endif
