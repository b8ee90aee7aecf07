/* upstreams: what is behind Margay, and how it is. See ctl.h. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exit_code.h"
#include "common/units.h"
#include "master/ctl/connection.h"
#include "master/ctl/ctl.h"
#include "master/ctl/reply.h"

static const char row_format[] = "%-20s %-6s %-9s %8s %8s %8s %9s %11s  %s\n";

static void format_number(double value, char out[24])
{
	snprintf(out, 24, "%.0f", value);
}

static void print_child(const cJSON *child)
{
	char name[24], sessions[24], restarts[24], memory[24], uptime[24];

	snprintf(name, sizeof(name), "  %.0f", reply_number(child, "pid"));
	format_number(reply_number(child, "sessions"), sessions);
	format_number(reply_number(child, "restarts"), restarts);
	snprintf(
	    memory, sizeof(memory), "%.1f MiB", reply_number(child, "memory_bytes") / (1 << 20));
	snprintf(uptime, sizeof(uptime), "%.0f s", reply_number(child, "uptime_seconds"));
	printf(row_format, name, "child", reply_text(child, "state"), "", sessions, restarts,
	    uptime, memory, "");
}

static void print_upstream(const cJSON *upstream)
{
	char children[24], sessions[24], restarts[24];
	const cJSON *rows = cJSON_GetObjectItemCaseSensitive(upstream, "children"), *child;

	if (strcmp(reply_text(upstream, "kind"), "http") == 0) {
		printf("%-20s %-6s %s, %.0f requests, %.0f errors\n", reply_text(upstream, "name"),
		    "http", reply_text(upstream, "url"), reply_number(upstream, "requests"),
		    reply_number(upstream, "errors"));
		return;
	}
	format_number(cJSON_GetArraySize(rows), children);
	format_number(reply_number(upstream, "sessions"), sessions);
	format_number(reply_number(upstream, "restarts"), restarts);
	printf(row_format, reply_text(upstream, "name"), "stdio", reply_text(upstream, "state"),
	    children, sessions, restarts, "", "", reply_text(upstream, "last_error"));
	cJSON_ArrayForEach(child, rows) print_child(child);
}

static void print_upstreams(const cJSON *reply)
{
	const cJSON *row;

	printf(row_format, "upstream", "kind", "state", "children", "sessions", "restarts",
	    "uptime", "memory", "last error");
	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(reply, "upstreams"))
	    print_upstream(row);
}

int upstreams_main(int argc, char **argv)
{
	struct ctl_options options;
	cJSON *reply;
	int fd, code = ctl_parse_options(argc, argv, CTL_JSON, NULL, &options);

	if (code || (code = ctl_request(&options, "upstreams", &reply, &fd)))
		return code;
	close(fd);
	bool ok = cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok"));
	char *text = options.json ? cJSON_Print(reply) : NULL;
	if (options.json)
		puts(text ? text : "{}");
	else
		print_upstreams(reply);
	if (!ok)
		fprintf(stderr, "margay: %s\n", reply_text(reply, "message"));
	free(text);
	cJSON_Delete(reply);
	return ok ? EXIT_OK : EXIT_FAILED;
}
