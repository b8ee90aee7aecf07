/* report: see report.h. */
#include "tests/load/driver/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const kind_names[KINDS] = {"keepalive_legacy", "keepalive_modern",
    "connects_legacy", "connects_modern", "streams_legacy", "streams_modern"};

static const char *const failure_names[FAILURES] = {"refused", "reset", "closed", "status", "bad",
    "late", "timeout", "gap", "repeat", "absent", "silent", "local"};

static uint64_t wall_milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int report_open(struct report *r, unsigned row_max, const char *windows)
{
	r->rows = calloc(row_max ? row_max : 1, sizeof(*r->rows));
	if (!r->rows)
		return -ENOMEM;
	r->row_max = row_max;
	if (!windows)
		return 0;
	r->windows = fopen(windows, "we");
	if (!r->windows)
		return -errno;
	setvbuf(r->windows, NULL, _IOLBF, 0);
	return 0;
}

void report_close(struct report *r)
{
	if (r->windows)
		fclose(r->windows);
	free(r->rows);
}

void report_start(struct report *r)
{
	r->started = r->window_started = wall_milliseconds();
}

void report_answered(struct report *r, enum kind kind, uint64_t microseconds)
{
	r->kinds[kind].answered++;
	latency_add(&r->kinds[kind].latency, microseconds);
	latency_add(&r->window, microseconds);
}

void report_failed(struct report *r, struct failure_row *row)
{
	row->at = wall_milliseconds();
	if (row->opening) {
		r->opening_failures[row->failure]++;
	} else {
		r->kinds[row->kind].failures[row->failure]++;
		r->window_failures++;
		if (row->failure == FAILURE_STATUS)
			r->kinds[row->kind].statuses[row->status]++;
	}
	if (r->row_count < r->row_max)
		r->rows[r->row_count++] = *row;
}

static void print_latency(const struct latency *l, FILE *out)
{
	fprintf(out,
	    "\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64,
	    latency_quantile(l, 0.5), latency_quantile(l, 0.99), latency_quantile(l, 0.999),
	    l->max);
}

void report_window(struct report *r)
{
	if (r->windows) {
		fprintf(r->windows,
		    "{\"t\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"failures\":%" PRIu64 ",",
		    r->window_started, r->window.count, r->window_failures);
		print_latency(&r->window, r->windows);
		fputs("}\n", r->windows);
	}
	r->window = (struct latency){0};
	r->window_failures = 0;
	r->window_started = wall_milliseconds();
}

static void print_failures(const uint64_t *failures, FILE *out)
{
	const char *comma = "";

	fputs("{", out);
	for (unsigned i = 0; i < FAILURES; i++) {
		if (failures[i] == 0)
			continue;
		fprintf(out, "%s\"%s\":%" PRIu64, comma, failure_names[i], failures[i]);
		comma = ",";
	}
	fputs("}", out);
}

static void print_statuses(const uint64_t *statuses, FILE *out)
{
	const char *comma = "";

	fputs("{", out);
	for (unsigned i = 0; i < STATUS_MAX; i++) {
		if (statuses[i] == 0)
			continue;
		fprintf(out, "%s\"%u\":%" PRIu64, comma, i, statuses[i]);
		comma = ",";
	}
	fputs("}", out);
}

static void print_tally(const char *name, const struct tally *t, FILE *out)
{
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {{"clients", t->clients}, {"requests", t->requests}, {"answered", t->answered},
	    {"connects", t->connects}, {"reconnects", t->reconnects},
	    {"asked_to_close", t->asked_to_close}, {"idle_closes", t->idle_closes},
	    {"sessions_reopened", t->reopened}, {"events", t->events},
	    {"unnumbered", t->unnumbered}, {"endings", t->endings}};

	fprintf(out, "\"%s\":{", name);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		fprintf(out, "\"%s\":%" PRIu64 ",", counts[i].name, counts[i].value);
	fputs("\"failures\":", out);
	print_failures(t->failures, out);
	fputs(",\"statuses\":", out);
	print_statuses(t->statuses, out);
	fputs(",\"latency_us\":{", out);
	print_latency(&t->latency, out);
	fputs("}}", out);
}

/* Session ids come from the server, details may hold an event's id: no more is let into a string
 * than it may hold unescaped. */
static void print_text(const char *name, const char *text, FILE *out)
{
	fprintf(out, ",\"%s\":\"", name);
	for (const char *p = text; *p; p++)
		fputc(*p < ' ' || *p > '~' || *p == '"' || *p == '\\' ? '?' : *p, out);
	fputc('"', out);
}

static void print_row(const struct failure_row *row, FILE *out)
{
	fprintf(out,
	    "{\"t\":%" PRIu64 ",\"kind\":\"%s\",\"failure\":\"%s\",\"opening\":%s,\"port\":%u,"
	    "\"status\":%u,\"after_us\":%" PRIu64,
	    row->at, kind_names[row->kind], failure_names[row->failure],
	    row->opening ? "true" : "false", row->port, row->status, row->after);
	print_text("id", row->id, out);
	print_text("first", row->first, out);
	print_text("before", row->before, out);
	print_text("session", row->session, out);
	print_text("detail", row->detail, out);
	fputs("}", out);
}

static uint64_t failed(const struct report *r)
{
	uint64_t all = 0;

	for (unsigned kind = 0; kind < KINDS; kind++) {
		for (unsigned i = 0; i < FAILURES; i++)
			all += r->kinds[kind].failures[i];
	}
	return all;
}

void report_print(const struct report *r, FILE *out, bool final)
{
	const char *comma = "";

	fprintf(out,
	    "{\"final\":%s,\"started\":%" PRIu64 ",\"t\":%" PRIu64 ",\"opened\":%" PRIu64
	    ",\"unopened\":%" PRIu64 ",\"opening_failures\":",
	    final ? "true" : "false", r->started, wall_milliseconds(), r->opened, r->unopened);
	print_failures(r->opening_failures, out);
	fprintf(out, ",\"failed\":%" PRIu64 ",\"kinds\":{", failed(r));
	for (unsigned kind = 0; kind < KINDS; kind++) {
		if (r->kinds[kind].clients == 0)
			continue;
		fputs(comma, out);
		print_tally(kind_names[kind], &r->kinds[kind], out);
		comma = ",";
	}
	fputs("}", out);
	if (final) {
		fputs(",\"failures\":[", out);
		for (unsigned i = 0; i < r->row_count; i++) {
			fputs(i > 0 ? "," : "", out);
			print_row(&r->rows[i], out);
		}
		fputs("]", out);
	}
	fputs("}\n", out);
	fflush(out);
}
