/* metrics: who owns a slot, what survives its process, and the text that comes out. */
#include "common/metrics/metrics.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct config_route routes[] = {{.path = "/a"}, {.path = "/b\\\"\n"}};
static struct config_upstream upstreams[] = {{.name = "one"}};
static const struct config config = {
    .routes = routes, .route_count = 2, .upstreams = upstreams, .upstream_count = 1};

static struct metrics *segment(void)
{
	struct metrics *m;

	cr_assert_eq(metrics_create(&m), 0);
	metrics_label(m, &config);
	return m;
}

Test(metrics, every_cell_of_a_histogram_has_an_inclusive_upper_bound)
{
	for (unsigned cell = 0; cell + 1 < HISTOGRAM_CELLS; cell++) {
		uint64_t upper = histogram_upper(cell);
		cr_assert_eq(histogram_cell(upper), cell, "%u", cell);
		cr_assert_eq(histogram_cell(upper + 1), cell + 1, "%u", cell);
	}
	cr_assert_eq(histogram_cell(0), 0);
	cr_assert_eq(histogram_cell(UINT64_MAX), HISTOGRAM_CELLS - 1);
	for (unsigned e = 0; e < 32; e++)
		cr_assert_eq(histogram_upper(histogram_cell((uint64_t)1 << e)), (uint64_t)1 << e,
		    "2^%u is an edge", e);
}

Test(metrics, labels_keep_their_ids_over_configurations)
{
	struct metrics *m = segment();
	unsigned a = metrics_route_id(m, "/a");
	struct config_route more[] = {{.path = "/new"}, {.path = "/a"}};
	struct config next = {.routes = more, .route_count = 2};

	cr_assert_neq(a, 0);
	metrics_label(m, &next);
	cr_assert_eq(metrics_route_id(m, "/a"), a);
	cr_assert_neq(metrics_route_id(m, "/new"), 0);
	cr_assert_eq(metrics_route_id(m, "/unknown"), 0, "other");
	metrics_close(m);
}

Test(metrics, a_full_label_table_counts_as_other)
{
	struct metrics *m = segment();
	char path[16];
	struct config_route row = {.path = path};
	struct config one = {.routes = &row, .route_count = 1};

	for (int i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "/%d", i);
		metrics_label(m, &one);
	}
	cr_assert_eq(metrics_route_id(m, "/999"), 0);
	cr_assert_neq(metrics_route_id(m, "/0"), 0);
	metrics_close(m);
}

Test(metrics, counters_survive_kill_9_and_gauges_do_not)
{
	struct metrics *m = segment();
	int slot = metrics_slot_take(m, METRIC_SLOT_WORKER, 3, 1);
	pid_t pid = fork();

	cr_assert_geq(slot, 0);
	if (pid == 0) {
		struct metrics_slot *s = metrics_slot_open(m, slot, getpid());
		METRIC_ADD(s, CONNECTIONS, 41, 0);
		METRIC_ADD(s, CONNECTIONS, 1, 0);
		METRIC_ADD(s, CONNECTIONS_OPEN, 7, 0);
		METRIC_OBSERVE(s, CONNECTION_SECONDS, 1000, 0);
		raise(SIGKILL);
	}
	waitpid(pid, NULL, 0);
	cr_assert_eq(metrics_sum(m, M_CONNECTIONS_OPEN, (struct metric_at){0}), 7);
	metrics_slot_reaped(m, slot);
	cr_assert_eq(metrics_sum(m, M_CONNECTIONS, (struct metric_at){0}), 42);
	cr_assert_eq(metrics_sum(m, M_CONNECTION_SECONDS, (struct metric_at){0}), 1);
	cr_assert_eq(metrics_sum(m, M_CONNECTIONS_OPEN, (struct metric_at){0}), 0);
	cr_assert_eq(metrics_slot_take(m, METRIC_SLOT_WORKER, 3, 2), slot,
	    "its successor goes on counting there");
	metrics_close(m);
}

Test(metrics, a_slot_has_one_holder_until_it_is_reaped)
{
	struct metrics *m = segment();
	int first = metrics_slot_take(m, METRIC_SLOT_WORKER, 0, 1);
	int second = metrics_slot_take(m, METRIC_SLOT_WORKER, 0, 2);

	cr_assert_neq(first, second, "generations overlap");
	for (int i = 2; i < METRIC_SLOTS; i++)
		cr_assert_geq(metrics_slot_take(m, METRIC_SLOT_WORKER, (unsigned)i, 1), 0);
	cr_assert_lt(metrics_slot_take(m, METRIC_SLOT_WORKER, 99, 1), 0);
	metrics_slot_reaped(m, second);
	cr_assert_eq(metrics_slot_take(m, METRIC_SLOT_WORKER, 99, 1), second);
	metrics_close(m);
}

Test(metrics, label_indices_out_of_range_count_as_the_first)
{
	struct metrics *m = segment();
	struct metrics_slot *s =
	    metrics_slot_open(m, metrics_slot_take(m, METRIC_SLOT_WORKER, 0, 1), getpid());

	METRIC_ADD(s, REQUESTS, 1, 9999, 9999, 9999);
	cr_assert_eq(metrics_sum(m, M_REQUESTS, (struct metric_at){0}), 1);
	metrics_close(m);
}

/* In portions as small as they can be. */
static void render(const struct metrics *m, struct buffer *out)
{
	struct exposition *e;
	int done;

	cr_assert_eq(exposition_begin(m, &e), 0);
	while ((done = exposition_more(e, 1, out)) == 0) {
	}
	cr_assert_eq(done, 1);
	exposition_end(e);
}

/* The value of the sample that starts with `series` and a space. */
static double sample(const char *text, const char *series)
{
	size_t n = strlen(series);

	for (const char *line = text; line && *line;
	     line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (strncmp(line, series, n) == 0 && line[n] == ' ')
			return atof(line + n + 1);
	}
	cr_assert_fail("no sample %s", series);
	return -1;
}

Test(metrics, the_text_holds_every_family_once_and_sums_all_slots)
{
	struct metrics *m = segment();
	struct buffer out = {0};

	for (unsigned i = 0; i < 2; i++) {
		struct metrics_slot *s =
		    metrics_slot_open(m, metrics_slot_take(m, METRIC_SLOT_WORKER, i, 1), getpid());
		METRIC_ADD(s, REQUESTS, 3, metrics_route_id(m, "/a"), METRIC_METHOD_TOOLS_CALL,
		    METRIC_OUTCOME_OK);
		METRIC_OBSERVE(
		    s, REQUEST_SECONDS, 1024, metrics_route_id(m, "/a"), METRIC_METHOD_TOOLS_CALL);
		METRIC_OBSERVE(
		    s, REQUEST_SECONDS, 1025, metrics_route_id(m, "/a"), METRIC_METHOD_TOOLS_CALL);
	}
	render(m, &out);
	cr_assert_eq(buffer_append(&out, "", 1, SIZE_MAX), 0);
	const char *text = buffer_span(&out).p;
	cr_assert_eq(
	    sample(
		text, "margay_requests_total{route=\"/a\",method=\"tools/call\",outcome=\"ok\"}"),
	    6);
	cr_assert_eq(sample(text, "margay_requests_total{route=\"/b\\\\\\\"\\n\",method=\"tools/"
				  "call\",outcome=\"ok\"}"),
	    0);
	static const char bucket[] =
	    "margay_request_duration_seconds_bucket{route=\"/a\",method=\"tools/call\",le=\"%s\"}";
	char series[128];
	snprintf(series, sizeof(series), bucket, "0.001024");
	cr_assert_eq(sample(text, series), 2);
	snprintf(series, sizeof(series), bucket, "0.004096");
	cr_assert_eq(sample(text, series), 4);
	snprintf(series, sizeof(series), bucket, "+Inf");
	cr_assert_eq(sample(text, series), 4);
	cr_assert_eq(
	    sample(
		text, "margay_request_duration_seconds_count{route=\"/a\",method=\"tools/call\"}"),
	    4);
#define METRIC(id, kind, name, help, a, b, c)                                       \
	cr_expect_not_null(strstr(text, "# HELP " name " " help "\n"), "%s", name); \
	cr_expect_null(                                                             \
	    strstr(strstr(text, "# TYPE " name " ") + 1, "# TYPE " name " "), "%s", name);
#include "common/metrics/metrics.def"
#undef METRIC
	buffer_release(&out);
	metrics_close(m);
}

Test(metrics, every_metric_is_documented)
{
	static char text[65536];
	FILE *file = fopen(MARGAY_SOURCE_DIR "/docs/metrics.md", "r");

	cr_assert_not_null(file, "docs/metrics.md");
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
#define METRIC(id, kind, name, help, a, b, c)                                                 \
	cr_expect_not_null(strstr(text, "| `" name "` |"), "docs/metrics.md lacks %s", name); \
	cr_expect_not_null(strstr(text, help), "docs/metrics.md lacks the help of %s", name);
#include "common/metrics/metrics.def"
#undef METRIC
}

Test(metrics, only_a_segment_of_the_same_layout_is_taken_over)
{
	struct metrics *m = segment(), *other;
	int slot = metrics_slot_take(m, METRIC_SLOT_WORKER, 1, 1);

	METRIC_ADD(metrics_slot_open(m, slot, getpid()), RELOADS, 3, 0);
	int fd = dup(metrics_fd(m));
	cr_assert_eq(metrics_adopt(fd, &other), 0);
	cr_assert_eq(metrics_sum(other, M_RELOADS, (struct metric_at){0}), 3);
	metrics_close(other);

	char saved[64], broken[64];
	cr_assert_eq(pread(metrics_fd(m), saved, sizeof(saved), 0), (ssize_t)sizeof(saved));
	for (size_t i = 0; i < 6; i++) { /* each word of the header by which it is known */
		memcpy(broken, saved, sizeof(saved));
		broken[i * sizeof(uint32_t)] = (char)(broken[i * sizeof(uint32_t)] + 1);
		cr_assert_eq(
		    pwrite(metrics_fd(m), broken, sizeof(broken), 0), (ssize_t)sizeof(broken));
		cr_expect_eq(metrics_adopt(metrics_fd(m), &other), -EINVAL, "word %zu", i);
	}
	metrics_close(m);
	int small = memfd_create("margay-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_expect_eq(metrics_adopt(small, &other), -EINVAL, "another size");
	close(small);
}

Test(metrics, slots_of_those_who_are_gone_are_free_again)
{
	struct metrics *m = segment();
	struct metrics_slot_info info;
	int mine = metrics_slot_take(m, METRIC_SLOT_MASTER, 0, 0),
	    theirs = metrics_slot_take(m, METRIC_SLOT_MASTER, 0, 0),
	    next = metrics_slot_take(m, METRIC_SLOT_WORKER, 0, 1);
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	METRIC_SET(metrics_slot_open(m, mine, getpid()), GENERATION, 1, 0);
	METRIC_SET(metrics_slot_open(m, theirs, pid), GENERATION, 2, 0);
	siginfo_t ended;
	cr_assert_eq(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT), 0);
	metrics_reap_gone(m); /* nobody has waited for it, but it is dead */
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_assert_eq(metrics_sum(m, M_GENERATION, (struct metric_at){0}), 1);
	metrics_slot_info(m, theirs, &info);
	cr_assert_eq(info.kind, METRIC_SLOT_FREE);
	metrics_slot_info(m, next, &info);
	cr_assert_eq(info.kind, METRIC_SLOT_WORKER, "it is just being started");
	metrics_close(m);
}
