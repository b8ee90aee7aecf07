/*
 * metrics: counters, gauges and histograms in one sealed memfd, one writer per slot.
 *
 * The master creates the segment and maps it before it forks; every process writes only its own
 * slot, with relaxed loads and stores and no lock. Counters belong to the slot, not to the process:
 * they survive kill -9. Gauges are zeroed by the master when it reaps. Any process may read all
 * slots and render them. What exists is declared once in metrics.def. Labels come only from the
 * configuration or from fixed enums.
 */
#ifndef MARGAY_COMMON_METRICS_METRICS_H
#define MARGAY_COMMON_METRICS_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "common/config/config.h"
#include "common/metrics/histogram.h"
#include "common/metrics/labels.h"

/*
 * Dimensions of labels. Route and upstream values are rows of the label table (index = id, stable
 * over reloads, found again by name; id 0 is "other"). The others are fixed enums.
 */
enum metric_dimension {
	DIM_NONE,
	DIM_ROUTE,
	DIM_UPSTREAM,
	DIM_METHOD,
	DIM_OUTCOME,
	DIM_REASON,
	DIM_END,
	DIM_DIRECTION,
	DIM_WORKER,
	DIM_DROP
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* id, kind, name, help, dimension a, b, c */
#define METRIC_ENUM_ID(id, kind, name, help, a, b, c) M_##id,
enum metric_id {
#define METRIC METRIC_ENUM_ID
#include "common/metrics/metrics.def"
#undef METRIC
	METRIC_ID_COUNT
};

/* How many values each dimension has; the tables of routes and upstreams have room for "other" and
 * all rows. */
enum {
	SIZE_DIM_NONE = 1,
	SIZE_DIM_ROUTE = CONFIG_ROUTES_MAX + 1,
	SIZE_DIM_UPSTREAM = CONFIG_UPSTREAMS_MAX + 1,
	SIZE_DIM_METHOD = METRIC_METHOD_COUNT,
	SIZE_DIM_OUTCOME = METRIC_OUTCOME_COUNT,
	SIZE_DIM_REASON = METRIC_REASON_COUNT,
	SIZE_DIM_END = METRIC_END_COUNT,
	SIZE_DIM_DIRECTION = METRIC_DIRECTION_COUNT,
	SIZE_DIM_WORKER = CONFIG_WORKERS_MAX,
	SIZE_DIM_DROP = METRIC_DROP_COUNT,
	SIZE_METRIC_COUNTER = 1,
	SIZE_METRIC_GAUGE = 1,
	SIZE_METRIC_HISTOGRAM = HISTOGRAM_CELLS + 1, /* and the sum */
};

/* First cell of each metric in a slot. */
enum metric_base {
#define METRIC(id, kind, name, help, a, b, c) \
	BASE_##id, LAST_##id = BASE_##id + SIZE_##kind * SIZE_##a * SIZE_##b * SIZE_##c - 1,
#include "common/metrics/metrics.def"
#undef METRIC
	METRIC_CELLS
};

/* Where the cells of a metric are: the first, how many each label set has, how many values each
 * label. */
struct metric_shape {
	uint32_t base, width, sizes[3];
};

/* The shape of each, as constants. */
enum {
#define METRIC(id, kind, name, help, a, b, c)                                     \
	WIDTH_##id = SIZE_##kind, SIZE_A_##id = SIZE_##a, SIZE_B_##id = SIZE_##b, \
	SIZE_C_##id = SIZE_##c,
#include "common/metrics/metrics.def"
#undef METRIC
};
#define METRIC_SHAPE(id)                                      \
	{                                                     \
		BASE_##id, WIDTH_##id,                        \
		{                                             \
			SIZE_A_##id, SIZE_B_##id, SIZE_C_##id \
		}                                             \
	}

enum metric_slot_kind {
	METRIC_SLOT_FREE,
	METRIC_SLOT_MASTER,
	METRIC_SLOT_WORKER,
	METRIC_SLOT_BROKER,
	METRIC_SLOT_KEEPER
};
/* Three generations of workers and one that starts; two masters, brokers and keepers. */
enum { METRIC_SLOTS = 4 * CONFIG_WORKERS_MAX + 6 };

/* Index of each label in the order of the metric's dimensions; 0 where it has none. */
struct metric_at {
	unsigned a, b, c;
};

/* One process' part of the segment. */
struct metrics_slot {
	_Alignas(128) _Atomic uint32_t used; /* some process had it */
	_Atomic uint32_t kind; /* enum metric_slot_kind of its holder; FREE when there is none */
	_Atomic uint32_t number, generation;
	_Atomic int32_t pid;
	_Atomic uint64_t heartbeat;
	uint32_t last_kind, last_number; /* of the last holder: it gets the slot back */
	_Alignas(128) _Atomic uint64_t cells[METRIC_CELLS];
};

struct metrics; /* the segment */

/* Create and map a segment; *out is the caller's. 0 or -errno. */
int metrics_create(struct metrics **out) MUST_CHECK;
/* Map the segment of another master (the descriptor is taken if 0 is returned). -EINVAL when it is
 * none, or of another layout: then its counters can't go on. */
int metrics_adopt(int fd, struct metrics **out) MUST_CHECK;
void metrics_close(struct metrics *m);
int metrics_fd(const struct metrics *m);

/* Master: put the configuration's routes and upstreams into the label table. Rows are only ever
 * added. */
void metrics_label(struct metrics *m, const struct config *config);
/* Ids of labels, to be looked up once per generation; 0 ("other") when the table is full. */
unsigned metrics_route_id(const struct metrics *m, const char *path);
unsigned metrics_upstream_id(const struct metrics *m, const char *name);

/*
 * Master: give a slot to a process about to be forked. `name` is the label `process` ("worker 2").
 * A worker's slot goes to the next worker of the same number when free, so that its counters go on.
 * The slot is the process' until metrics_slot_reaped, which zeroes its gauges. Slot number or
 * -EBUSY when all are taken.
 */
int metrics_slot_take(
    struct metrics *m, enum metric_slot_kind kind, unsigned number, unsigned generation) MUST_CHECK;
void metrics_slot_reaped(struct metrics *m, int slot);
/* Those of processes that are gone, which no master reaped because it is gone as well. */
void metrics_reap_gone(struct metrics *m);

/* In the process itself, after fork. */
struct metrics_slot *metrics_slot_open(struct metrics *m, int slot, int32_t pid);
void metrics_heartbeat(struct metrics_slot *slot, uint64_t monotonic_nanoseconds);

/* The hot path: a few instructions each, as all but the labels is known when they are compiled. */

/* First cell of one label set; what is out of range is 0. */
static inline uint32_t metric_cell(const struct metric_shape *shape, struct metric_at at)
{
	unsigned a = at.a < shape->sizes[0] ? at.a : 0;
	unsigned b = at.b < shape->sizes[1] ? at.b : 0;
	unsigned c = at.c < shape->sizes[2] ? at.c : 0;

	return shape->base + ((a * shape->sizes[1] + b) * shape->sizes[2] + c) * shape->width;
}

static inline void metric_cell_set(struct metrics_slot *slot, uint32_t cell, uint64_t value)
{
	atomic_store_explicit(&slot->cells[cell], value, memory_order_relaxed);
}

/* The only writer of this cell: no lock, no read-modify-write. */
static inline void metric_cell_add(struct metrics_slot *slot, uint32_t cell, uint64_t n)
{
	metric_cell_set(
	    slot, cell, atomic_load_explicit(&slot->cells[cell], memory_order_relaxed) + n);
}

/* Histograms of durations take microseconds and are exported in seconds. 0 counts as 1 in the sum,
 * so that the sum alone tells whether anything was observed. */
static inline void metric_cell_observe(struct metrics_slot *slot, uint32_t cell, uint64_t value)
{
	metric_cell_add(slot, cell + histogram_cell(value), 1);
	metric_cell_add(slot, cell + HISTOGRAM_CELLS, value > 0 ? value : 1);
}

#ifdef MARGAY_WITHOUT_METRICS /* to show what they cost: scripts/instructions */
#define METRIC_DO(what, slot, id, n, ...) \
	((void)(slot), (void)(n), (void)(struct metric_at){__VA_ARGS__})
#else
#define METRIC_DO(what, slot, id, n, ...)                                                       \
	metric_cell_##what((slot),                                                              \
	    metric_cell(                                                                        \
		&(const struct metric_shape)METRIC_SHAPE(id), (struct metric_at){__VA_ARGS__}), \
	    (n))
#endif
#define METRIC_ADD(slot, id, n, ...)     METRIC_DO(add, slot, id, n, __VA_ARGS__)
#define METRIC_SUB(slot, id, n, ...)     METRIC_DO(add, slot, id, -(uint64_t)(n), __VA_ARGS__)
#define METRIC_SET(slot, id, n, ...)     METRIC_DO(set, slot, id, n, __VA_ARGS__)
#define METRIC_OBSERVE(slot, id, n, ...) METRIC_DO(observe, slot, id, n, __VA_ARGS__)

/* One whose id is not a constant. */
void metric_count(struct metrics_slot *slot, enum metric_id id);

/* Sum over all slots of one cell (for status and tests). For histograms: the count. */
uint64_t metrics_sum(const struct metrics *m, enum metric_id id, struct metric_at at);
/* One slot's value, and who holds it: for `margay status`. */
struct metrics_slot_info {
	enum metric_slot_kind kind;
	unsigned number, generation;
	int32_t pid;
	uint64_t heartbeat; /* CLOCK_MONOTONIC nanoseconds */
};
void metrics_slot_info(const struct metrics *m, int slot, struct metrics_slot_info *out);
uint64_t metrics_slot_value(
    const struct metrics *m, int slot, enum metric_id id, struct metric_at at);

/*
 * Prometheus text format 0.0.4 of the whole table, in portions. exposition_more appends `bytes` or
 * a little more to `out`: 1 when that was all, 0 when there is more, -ENOMEM.
 */
struct exposition;
int exposition_begin(const struct metrics *m, struct exposition **out) MUST_CHECK;
int exposition_more(struct exposition *e, size_t bytes, struct buffer *out) MUST_CHECK;
void exposition_end(struct exposition *e);

#endif
