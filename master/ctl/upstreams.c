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

static const char *text_of(const cJSON *object, const char *key)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

	return text ? text : "";
}

static double number_of(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char row_format[] = "%-20s %-6s %-12s %8s %8s %8s %8s %9s  %s\n";

static void format_number(double value, char out[24])
{
	snprintf(out, 24, "%.0f", value);
}

static void format_memory(double bytes, char out[24])
{
	snprintf(out, 24, "%.1f MiB", bytes / (1 << 20));
}

static void print_children(const cJSON *upstream)
{
	char pid[24], sessions[24], restarts[24], memory[24], uptime[24];
	const cJSON *child;

	cJSON_ArrayForEach(child, cJSON_GetObjectItemCaseSensitive(upstream, "children"))
	{
		format_number(number_of(child, "pid"), pid);
		format_number(number_of(child, "sessions"), sessions);
		format_number(number_of(child, "restarts"), restarts);
		format_memory(number_of(child, "memory_bytes"), memory);
		snprintf(uptime, sizeof(uptime), "%.0f s", number_of(child, "uptime_seconds"));
		printf(row_format, "", "child", text_of(child, "state"), pid, sessions, restarts,
		    uptime, memory, "");
	}
}

static void print_upstream(const cJSON *upstream)
{
	char children[24], sessions[24], restarts[24];
	const cJSON *rows = cJSON_GetObjectItemCaseSensitive(upstream, "children");

	if (strcmp(text_of(upstream, "kind"), "http") == 0) {
		format_number(number_of(upstream, "requests"), sessions);
		printf("%-20s %-6s %s, %s requests, %.0f errors\n", text_of(upstream, "name"),
		    "http", text_of(upstream, "url"), sessions, number_of(upstream, "errors"));
		return;
	}
	format_number(cJSON_GetArraySize(rows), children);
	format_number(number_of(upstream, "sessions"), sessions);
	format_number(number_of(upstream, "restarts"), restarts);
	printf(row_format, text_of(upstream, "name"), "stdio", text_of(upstream, "state"), children,
	    sessions, restarts, "", "", text_of(upstream, "last_error"));
	print_children(upstream);
}

static void print_upstreams(const cJSON *reply)
{
	const cJSON *row;

	printf(row_format, "upstream", "kind", "state", "pid", "sessions", "restarts", "uptime",
	    "memory", "last error");
	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(reply, "upstreams"))
	    print_upstream(row);
}

int upstreams_main(int argc, char **argv)
{
	struct ctl_options options;
	cJSON *reply;
	int fd, code = ctl_parse_options(argc, argv, 1, NULL, &options);

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
		fprintf(stderr, "margay: %s\n", text_of(reply, "message"));
	free(text);
	cJSON_Delete(reply);
	return ok ? EXIT_OK : EXIT_FAILED;
}

int restart_main(int argc, char **argv)
{
	struct ctl_options options;
	cJSON *reply;
	int fd, code = ctl_parse_options(argc, argv, 0, "upstream", &options);

	if (code || (code = ctl_request(&options, "restart", &reply, &fd)))
		return code;
	close(fd);
	bool ok = cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok"));
	fprintf(ok ? stdout : stderr, "%s%s\n", ok ? "" : "margay: ", text_of(reply, "message"));
	cJSON_Delete(reply);
	return ok ? EXIT_OK : EXIT_FAILED;
}
