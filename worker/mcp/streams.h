/* streams: how many SSE streams each session has open in this worker, to bound them
 * (limits.streams_per_session). */
#ifndef MARGAY_WORKER_MCP_STREAMS_H
#define MARGAY_WORKER_MCP_STREAMS_H

#include <stdbool.h>

#include "common/attributes.h"
#include "common/session_id.h"

struct stream_counts;

int streams_open(struct stream_counts **out) MUST_CHECK;
void streams_close(struct stream_counts *s);
/* Count one more; false when the session has `max` already or memory is short. */
bool streams_acquire(struct stream_counts *s, const struct session_id *id, unsigned max) MUST_CHECK;
void streams_release(struct stream_counts *s, const struct session_id *id);

#endif
