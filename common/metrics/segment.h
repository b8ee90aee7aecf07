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

struct metrics_slot {
	_Alignas(128) _Atomic uint32_t used; /* some process had it */
	_Atomic uint32_t kind; /* enum metric_slot_kind of its holder; FREE when there is none */
	_Atomic uint32_t number, generation;
	_Atomic int32_t pid;
	_Atomic uint64_t heartbeat;
	uint32_t last_kind, last_number; /* of the last holder: it gets the slot back */
	_Alignas(128) _Atomic uint64_t cells[METRIC_CELLS];
};

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
	uint32_t base, width, sizes[3];
};

extern const struct metric_row metric_rows[METRIC_ID_COUNT];

struct metrics_slot *metrics_slot_at(const struct metrics *m, int slot);
/* First cell of one label set. */
static inline uint32_t metric_cell(const struct metric_row *row, struct metric_at at)
{
	unsigned a = at.a < row->sizes[0] ? at.a : 0;
	unsigned b = at.b < row->sizes[1] ? at.b : 0;
	unsigned c = at.c < row->sizes[2] ? at.c : 0;

	return row->base + ((a * row->sizes[1] + b) * row->sizes[2] + c) * row->width;
}

#endif
