/*
 * exposition: the metrics as Prometheus text, version 0.0.4.
 *
 * One pass over the table of metrics; each series is the sum over all slots that were ever used.
 * Counters and gauges appear with every label set from the start, so that the first increment is
 * seen; histograms with labels appear once they observed something. `_count` is derived from the
 * buckets, so it equals the +Inf bucket in any racy read.
 */
#include <inttypes.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/metrics/segment.h"

enum { EXPOSITION_MAX = 64 * 1024 * 1024, SAMPLE_MAX = 1024 };

/* Exported upper bounds: powers of two microseconds, which are edges of cells. */
static const unsigned bound_exponents[] = {6, 8, 10, 12, 14, 16, 17, 18, 19, 20, 22, 24, 26, 28};

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

struct dimension_names {
	const char *label;
	const char *const *values; /* NULL: a table of labels */
};

#define VALUE_NAME(id, name) name,
static const char *const no_values[] = {""};
static const char *const method_values[] = {METRIC_METHODS(VALUE_NAME)};
static const char *const outcome_values[] = {METRIC_OUTCOMES(VALUE_NAME)};
static const char *const reason_values[] = {METRIC_REASONS(VALUE_NAME)};
static const char *const end_values[] = {METRIC_ENDS(VALUE_NAME)};
static const char *const direction_values[] = {METRIC_DIRECTIONS(VALUE_NAME)};
static const char *const drop_values[] = {METRIC_DROPS(VALUE_NAME)};
#undef VALUE_NAME
static const char *const worker_values[SIZE_DIM_WORKER] = {"0", "1", "2", "3", "4", "5", "6", "7",
    "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21", "22", "23",
    "24", "25", "26", "27", "28", "29", "30", "31"};

static const struct dimension_names dimensions[] = {
    [DIM_NONE] = {NULL, no_values},
    [DIM_ROUTE] = {"route", NULL},
    [DIM_UPSTREAM] = {"upstream", NULL},
    [DIM_METHOD] = {"method", method_values},
    [DIM_OUTCOME] = {"outcome", outcome_values},
    [DIM_REASON] = {"reason", reason_values},
    [DIM_END] = {"reason", end_values},
    [DIM_DIRECTION] = {"direction", direction_values},
    [DIM_WORKER] = {"worker", worker_values},
    [DIM_DROP] = {"reason", drop_values},
};

/* One rendering: the slots to sum over, found once. */
struct exposition {
	const struct metrics *metrics;
	struct buffer *out;
	const struct metrics_slot *slots[METRIC_SLOTS];
	unsigned slot_count;
};

static const struct metrics_labels *labels_of(const struct metrics *m, enum metric_dimension d)
{
	return d == DIM_ROUTE ? &m->header->routes : &m->header->upstreams;
}

static unsigned dimension_count(const struct metrics *m, enum metric_dimension d, unsigned size)
{
	if (dimensions[d].values)
		return size;
	return atomic_load_explicit(&labels_of(m, d)->count, memory_order_acquire) + 1;
}

static const char *dimension_value(const struct metrics *m, enum metric_dimension d, unsigned i)
{
	if (dimensions[d].values)
		return dimensions[d].values[i];
	return i == 0 ? "other" : labels_of(m, d)->rows[i];
}

/* Append `label="value",` with the value escaped as the format demands. */
static size_t put_label(char *out, size_t size, const char *label, const char *value)
{
	size_t n = (size_t)snprintf(out, size, "%s=\"", label);

	for (; *value && n + 6 < size; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n')
			out[n++] = '\\';
		out[n++] = *value == '\n' ? 'n' : *value;
	}
	n += (size_t)snprintf(out + n, size - n, "\",");
	return n;
}

/* `a="x",b="y",` of one label set; empty without labels. */
static void put_labels(const struct metrics *m, const struct metric_row *row, struct metric_at at,
    char *out, size_t size)
{
	const unsigned index[] = {at.a, at.b, at.c};
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < 3; i++) {
		enum metric_dimension d = row->dimensions[i];
		if (d != DIM_NONE)
			n += put_label(out + n, size - n, dimensions[d].label,
			    dimension_value(m, d, index[i]));
	}
}

/* One line. `labels` ends in a comma, which is cut. */
static int put_sample(
    struct buffer *out, const char *name, const char *suffix, const char *labels, const char *value)
{
	size_t n = strlen(labels);

	if (n == 0)
		return buffer_printf(out, EXPOSITION_MAX, "%s%s %s\n", name, suffix, value);
	return buffer_printf(
	    out, EXPOSITION_MAX, "%s%s{%.*s} %s\n", name, suffix, (int)n - 1, labels, value);
}

static uint64_t cell_sum(const struct exposition *e, uint32_t cell)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < e->slot_count; i++)
		sum += atomic_load_explicit(&e->slots[i]->cells[cell], memory_order_relaxed);
	return sum;
}

static int put_bucket(const struct exposition *e, const char *name, const char *labels,
    const char *le, uint64_t count)
{
	char all[SAMPLE_MAX], value[24];

	snprintf(all, sizeof(all), "%sle=\"%s\",", labels, le);
	snprintf(value, sizeof(value), "%" PRIu64, count);
	return put_sample(e->out, name, "_bucket", all, value);
}

static int put_histogram(
    const struct exposition *e, const struct metric_row *row, uint32_t base, const char *labels)
{
	uint64_t cells[HISTOGRAM_CELLS], total = 0, below = 0;
	char text[40];
	unsigned cell = 0;
	int error = 0;

	for (unsigned i = 0; i < HISTOGRAM_CELLS; i++)
		total += cells[i] = cell_sum(e, base + i);
	if (total == 0 && labels[0])
		return 0;
	for (size_t i = 0; i < sizeof(bound_exponents) / sizeof(bound_exponents[0]) && !error;
	     i++) {
		uint64_t upper = (uint64_t)1 << bound_exponents[i];
		for (; histogram_upper(cell) <= upper; cell++)
			below += cells[cell];
		snprintf(text, sizeof(text), "%.6f", (double)upper / 1e6);
		error = put_bucket(e, row->name, labels, text, below);
	}
	if (!error)
		error = put_bucket(e, row->name, labels, "+Inf", total);
	snprintf(text, sizeof(text), "%.6f", (double)cell_sum(e, base + HISTOGRAM_CELLS) / 1e6);
	if (!error)
		error = put_sample(e->out, row->name, "_sum", labels, text);
	snprintf(text, sizeof(text), "%" PRIu64, total);
	return error ? error : put_sample(e->out, row->name, "_count", labels, text);
}

static int put_series(const struct exposition *e, const struct metric_row *row, struct metric_at at)
{
	char labels[SAMPLE_MAX / 2], value[24];
	uint32_t cell = metric_cell(&row->shape, at);

	put_labels(e->metrics, row, at, labels, sizeof(labels));
	if (row->kind == METRIC_HISTOGRAM)
		return put_histogram(e, row, cell, labels);
	/* A gauge is a sum of signed differences: one slot alone may be below zero for a moment. */
	if (row->kind == METRIC_GAUGE)
		snprintf(value, sizeof(value), "%" PRId64, (int64_t)cell_sum(e, cell));
	else
		snprintf(value, sizeof(value), "%" PRIu64, cell_sum(e, cell));
	return put_sample(e->out, row->name, "", labels, value);
}

static int put_head(struct buffer *out, const char *name, const char *kind, const char *help)
{
	return buffer_printf(
	    out, EXPOSITION_MAX, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static int put_family(const struct exposition *e, const struct metric_row *row)
{
	unsigned counts[3];
	struct metric_at at;
	int error = put_head(e->out, row->name, kind_names[row->kind], row->help);

	for (int i = 0; i < 3; i++)
		counts[i] = dimension_count(e->metrics, row->dimensions[i], row->shape.sizes[i]);
	for (at.a = 0; at.a < counts[0]; at.a++) {
		for (at.b = 0; at.b < counts[1]; at.b++) {
			for (at.c = 0; at.c < counts[2] && !error; at.c++)
				error = put_series(e, row, at);
		}
	}
	return error;
}

/* Gauges of the processes themselves, one series for each that lives. */
static int put_process(const struct exposition *e, const char *name, const char *help, bool age)
{
	static const char *const kinds[] = {"", "master", "worker", "broker", "keeper"};
	uint64_t now = clock_nanoseconds();
	int error = put_head(e->out, name, "gauge", help);

	for (unsigned i = 0; i < e->slot_count && !error; i++) {
		const struct metrics_slot *s = e->slots[i];
		uint32_t kind = s->kind;
		uint64_t beat = s->heartbeat;
		char labels[96], value[32] = "1";
		if (kind == METRIC_SLOT_FREE || kind >= sizeof(kinds) / sizeof(kinds[0]) ||
		    (age && beat == 0))
			continue;
		if (age)
			snprintf(value, sizeof(value), "%.3f",
			    now > beat ? (double)(now - beat) / 1e9 : 0);
		snprintf(labels, sizeof(labels), "process=\"%s\",number=\"%u\",generation=\"%u\",",
		    kinds[kind], s->number, s->generation);
		error = put_sample(e->out, name, "", labels, value);
	}
	return error;
}

int metrics_render(const struct metrics *m, struct buffer *out)
{
	struct exposition e = {.metrics = m, .out = out};

	for (int i = 0; i < METRIC_SLOTS; i++) {
		const struct metrics_slot *s = metrics_slot_at(m, i);
		if (s->used)
			e.slots[e.slot_count++] = s;
	}
	int error = put_head(
	    out, "margay_build_info", "gauge", "Always 1; the label says which version runs.");
	if (!error)
		error = buffer_printf(
		    out, EXPOSITION_MAX, "margay_build_info{version=\"%s\"} 1\n", MARGAY_VERSION);
	for (size_t id = 0; id < METRIC_ID_COUNT && !error; id++)
		error = put_family(&e, &metric_rows[id]);
	if (!error)
		error = put_process(
		    &e, "margay_process_up", "Processes that live, by kind and number.", false);
	if (!error)
		error = put_process(&e, "margay_process_heartbeat_age_seconds",
		    "Seconds since a process last turned its loop.", true);
	return error;
}
