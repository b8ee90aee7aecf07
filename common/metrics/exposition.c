/*
 * exposition: the metrics as Prometheus text, version 0.0.4.
 *
 * One pass over the table of metrics, in portions; each series is the sum over all slots that were
 * ever used. Counters and gauges appear with every label set from the start, so that the first
 * increment is seen; histograms with labels appear once they observed something. `_count` is
 * derived from the buckets, so it equals the +Inf bucket in any racy read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/decimal.h"
#include "common/metrics/segment.h"

enum { EXPOSITION_MAX = 64 * 1024 * 1024, SAMPLE_MAX = 1024 };

/* Exported upper bounds: powers of two microseconds, which are edges of cells. */
#define BOUND(exponent, seconds)                \
	{                                       \
		exponent, ",le=\"" seconds "\"" \
	}
static const struct {
	unsigned exponent;
	const char *label;
} bounds[] = {
    BOUND(6, "0.000064"),
    BOUND(8, "0.000256"),
    BOUND(10, "0.001024"),
    BOUND(12, "0.004096"),
    BOUND(14, "0.016384"),
    BOUND(16, "0.065536"),
    BOUND(17, "0.131072"),
    BOUND(18, "0.262144"),
    BOUND(19, "0.524288"),
    BOUND(20, "1.048576"),
    BOUND(22, "4.194304"),
    BOUND(24, "16.777216"),
    BOUND(26, "67.108864"),
    BOUND(28, "268.435456"),
};

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

/* A rendering: the slots to sum over, found once, and how far it is. */
struct exposition {
	const struct metrics *metrics;
	struct buffer *out;
	size_t family;       /* the next one; METRIC_ID_COUNT: what is of processes is left */
	struct metric_at at; /* the next series of it */
	unsigned slot_count;
	const struct metrics_slot *slots[METRIC_SLOTS];
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

/* Append `,label="value"` with the value escaped as the format demands. */
static size_t put_label(char *out, size_t size, const char *label, const char *value)
{
	char *end = stpcpy(stpcpy(stpcpy(out, ","), label), "=\"");
	size_t n = (size_t)(end - out);

	for (; *value && n + 3 < size; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n')
			out[n++] = '\\';
		out[n++] = *value == '\n' ? 'n' : *value;
	}
	out[n++] = '"';
	return n;
}

/* A label set as text, `,a="x",b="y"`: empty without labels. */
struct label_text {
	size_t n;
	char text[SAMPLE_MAX];
};

static void add_label(
    struct label_text *t, const struct metrics *m, enum metric_dimension d, unsigned index)
{
	if (d != DIM_NONE)
		t->n += put_label(t->text + t->n, sizeof(t->text) - t->n, dimensions[d].label,
		    dimension_value(m, d, index));
}

/* One line. `labels` and `more`, of which either may be empty, begin with a comma, of which the
 * first is none. */
static int put_sample(struct buffer *out, const char *name, struct span suffix, struct span labels,
    struct span more, struct span value)
{
	bool bare = labels.n == 0 && more.n == 0;
	struct span *first = labels.n > 0 ? &labels : &more;

	if (bare)
		return BUFFER_ADD(
		    out, EXPOSITION_MAX, span_of(name), suffix, SPAN(" "), value, SPAN("\n"));
	*first = (struct span){first->p + 1, first->n - 1};
	return BUFFER_ADD(out, EXPOSITION_MAX, span_of(name), suffix, SPAN("{"), labels, more,
	    SPAN("} "), value, SPAN("\n"));
}

static uint64_t cell_sum(const struct exposition *e, uint32_t cell)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < e->slot_count; i++)
		sum += atomic_load_explicit(&e->slots[i]->cells[cell], memory_order_relaxed);
	return sum;
}

static int put_histogram(
    const struct exposition *e, const struct metric_row *row, uint32_t base, struct span labels)
{
	static const struct span none = {0};
	uint64_t cells[HISTOGRAM_CELLS], total = 0, below = 0;
	uint64_t sum = cell_sum(e, base + HISTOGRAM_CELLS);
	char digits[DECIMAL_TEXT], text[40];
	unsigned cell = 0;
	int error = 0;

	if (sum == 0 && labels.n > 0)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_CELLS; i++)
		total += cells[i] = cell_sum(e, base + i);
	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]) && !error; i++) {
		uint64_t upper = (uint64_t)1 << bounds[i].exponent;
		for (; histogram_upper(cell) <= upper; cell++)
			below += cells[cell];
		error = put_sample(e->out, row->name, SPAN("_bucket"), labels,
		    span_of(bounds[i].label), decimal(digits, below));
	}
	if (!error)
		error = put_sample(e->out, row->name, SPAN("_bucket"), labels, SPAN(",le=\"+Inf\""),
		    decimal(digits, total));
	snprintf(text, sizeof(text), "%.6f", (double)sum / 1e6);
	if (!error)
		error = put_sample(e->out, row->name, SPAN("_sum"), labels, none, span_of(text));
	return error ? error
		     : put_sample(
			   e->out, row->name, SPAN("_count"), labels, none, decimal(digits, total));
}

static int put_series(const struct exposition *e, const struct metric_row *row, struct metric_at at,
    struct span labels)
{
	static const struct span none = {0};
	char digits[DECIMAL_TEXT + 2];
	uint32_t cell = metric_cell(&row->shape, at);

	if (row->kind == METRIC_HISTOGRAM)
		return put_histogram(e, row, cell, labels);
	uint64_t sum = cell_sum(e, cell);
	/* A gauge is a sum of signed differences: one slot alone may be below zero for a moment. */
	bool negative = row->kind == METRIC_GAUGE && (int64_t)sum < 0;
	if (!negative)
		return put_sample(e->out, row->name, none, labels, none, decimal(digits, sum));
	snprintf(digits, sizeof(digits), "%lld", (long long)sum);
	return put_sample(e->out, row->name, none, labels, none, span_of(digits));
}

static int put_head(struct buffer *out, const char *name, const char *kind, const char *help)
{
	return buffer_printf(
	    out, EXPOSITION_MAX, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

/* The series of the first two labels of e->at; then on to the next. */
static int put_group(struct exposition *e, const struct metric_row *row)
{
	const unsigned *sizes = row->shape.sizes;
	struct label_text labels;
	struct metric_at at = e->at;
	int error = 0;

	if (at.a == 0 && at.b == 0)
		error = put_head(e->out, row->name, kind_names[row->kind], row->help);
	labels.n = 0;
	add_label(&labels, e->metrics, row->dimensions[0], at.a);
	add_label(&labels, e->metrics, row->dimensions[1], at.b);
	const size_t two = labels.n;
	for (at.c = 0; at.c < sizes[2] && !error; at.c++) {
		labels.n = two;
		add_label(&labels, e->metrics, row->dimensions[2], at.c);
		error = put_series(e, row, at, (struct span){labels.text, labels.n});
	}
	if (++e->at.b < dimension_count(e->metrics, row->dimensions[1], sizes[1]))
		return error;
	e->at.b = 0;
	if (++e->at.a < dimension_count(e->metrics, row->dimensions[0], sizes[0]))
		return error;
	e->at.a = 0;
	e->family++;
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
		char text[96], value[32] = "1";
		if (kind == METRIC_SLOT_FREE || kind >= sizeof(kinds) / sizeof(kinds[0]) ||
		    (age && beat == 0))
			continue;
		if (age)
			snprintf(value, sizeof(value), "%.3f",
			    now > beat ? (double)(now - beat) / 1e9 : 0);
		snprintf(text, sizeof(text), ",process=\"%s\",number=\"%u\",generation=\"%u\"",
		    kinds[kind], s->number, s->generation);
		error = put_sample(e->out, name, (struct span){0}, span_of(text), (struct span){0},
		    span_of(value));
	}
	return error;
}

/* What is known of the processes as a whole. */
static int put_processes(const struct exposition *e)
{
	int error = put_head(
	    e->out, "margay_build_info", "gauge", "Always 1; the label says which version runs.");

	if (!error)
		error = buffer_printf(e->out, EXPOSITION_MAX,
		    "margay_build_info{version=\"%s\"} 1\n", MARGAY_VERSION);
	if (!error)
		error = put_process(
		    e, "margay_process_up", "Processes that live, by kind and number.", false);
	if (!error)
		error = put_process(e, "margay_process_heartbeat_age_seconds",
		    "Seconds since a process last turned its loop.", true);
	return error;
}

int exposition_begin(const struct metrics *m, struct exposition **out)
{
	struct exposition *e = *out = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->metrics = m;
	for (int i = 0; i < METRIC_SLOTS; i++) {
		const struct metrics_slot *s = metrics_slot_at(m, i);
		if (s->used)
			e->slots[e->slot_count++] = s;
	}
	return 0;
}

int exposition_more(struct exposition *e, size_t bytes, struct buffer *out)
{
	size_t enough = buffer_length(out) + bytes;
	int error = 0;

	e->out = out;
	while (!error && e->family < METRIC_ID_COUNT && buffer_length(out) < enough)
		error = put_group(e, &metric_rows[e->family]);
	if (error || e->family < METRIC_ID_COUNT)
		return error;
	error = put_processes(e);
	return error ? error : 1;
}

void exposition_end(struct exposition *e)
{
	free(e);
}
