/*
 * segment: how the shared memory of the metrics is laid out. Only for metrics.c and exposition.c.
 *
 * [header page and label tables][slot 0][slot 1]...; slots are page-aligned, each a header and
 * METRIC_CELLS cells. The segment is sparse: what is never written costs nothing. Labels are
 * published by their count (release), slots by `used`, which is never taken back, because the
 * counters of an ended process still count.
 */
#ifndef MARGAY_COMMON_METRICS_SEGMENT_H
#define MARGAY_COMMON_METRICS_SEGMENT_H

#include "common/metrics/metrics.h"

enum { METRICS_LAYOUT_VERSION = 1, METRICS_LABEL_MAX = 128, SLOT_ALIGNMENT = 4096 };

struct metrics_labels {
	_Atomic uint32_t count; /* rows after "other" */
	char rows[SIZE_DIM_ROUTE][METRICS_LABEL_MAX];
};

_Static_assert((int)SIZE_DIM_ROUTE == (int)SIZE_DIM_UPSTREAM, "both label tables have one shape");

struct metrics_header {
	uint32_t magic, version;
	uint64_t slot_stride;
	uint32_t slots, names; /* how many; a checksum of all that metrics.def says of cells */
	struct metrics_labels routes, upstreams;
};

struct metrics {
	int fd;
	size_t size;
	struct metrics_header *header;
};

/* What metrics.def says of one metric, and where its cells are. */
struct metric_row {
	const char *name, *help;
	enum metric_kind kind;
	enum metric_dimension dimensions[3];
	struct metric_shape shape;
};

extern const struct metric_row metric_rows[METRIC_ID_COUNT];

struct metrics_slot *metrics_slot_at(const struct metrics *m, int slot);
#endif
