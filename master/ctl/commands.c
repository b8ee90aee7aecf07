/* commands: check, status, reload, stop. See ctl.h. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/config/config.h"
#include "common/exit_code.h"
#include "master/ctl/connection.h"
#include "master/ctl/ctl.h"
#include "master/ctl/reply.h"

/* --- check
 * ------------------------------------------------------------------------------------------ */

static int print_keys(void)
{
	struct buffer out = {0};
	int error = config_document(&out);

	if (!error)
		fwrite(buffer_span(&out).p, 1, buffer_length(&out), stdout);
	buffer_release(&out);
	return error ? EXIT_FAILED : EXIT_OK;
}

static void print_warnings(const char *path, const struct config *config)
{
	struct buffer text = {0};
	char name[PATH_MAX + 16];

	snprintf(name, sizeof(name), "warning: %s", path);
	if (config_errors_print(&config->warnings, name, &text) == 0)
		fwrite(buffer_span(&text).p, 1, buffer_length(&text), stderr);
	buffer_release(&text);
}

static int check_file(const char *path)
{
	struct buffer bytes = {0}, text = {0};
	struct config_errors errors;
	struct config *config = NULL;
	int code = EXIT_CONFIG;

	int error = config_read(path, false, &bytes);
	if (error) {
		fprintf(stderr, "margay: %s can't be read: %s\n", path, strerror(-error));
		return EXIT_CONFIG;
	}
	error = config_parse(buffer_span(&bytes), NULL, &config, &errors);
	if (error == 0) {
		printf("%s: good: %zu upstreams, %zu routes, %u workers\n", path,
		    config->upstream_count, config->route_count, config->workers);
		print_warnings(path, config);
		config_free(config);
		code = EXIT_OK;
	} else if (error == -EINVAL) {
		if (config_errors_print(&errors, path, &text) == 0)
			fwrite(buffer_span(&text).p, 1, buffer_length(&text), stderr);
		config_errors_free(&errors);
	}
	buffer_release(&bytes);
	buffer_release(&text);
	return code;
}

int check_main(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"config", required_argument, NULL, 'c'}, {"keys", no_argument, NULL, 'k'}, {0}};
	const char *path = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "c:", longs, NULL)) != -1) {
		if (c == 'k')
			return print_keys();
		if (c != 'c')
			return EXIT_USAGE;
		path = optarg;
	}
	if (path && optind == argc)
		return check_file(path);
	fprintf(stderr, "margay: say which file: margay check -c FILE\n");
	return EXIT_USAGE;
}

/* --- status
 * ----------------------------------------------------------------------------------------- */

/* "3d 04:05:06" or "00:00:07". */
static void format_uptime(double seconds, char out[32])
{
	unsigned long total = (unsigned long)seconds;
	unsigned long days = total / 86400, hours = total / 3600 % 24, minutes = total / 60 % 60;

	if (days > 0)
		snprintf(out, 32, "%lud %02lu:%02lu:%02lu", days, hours, minutes, total % 60);
	else
		snprintf(out, 32, "%02lu:%02lu:%02lu", hours, minutes, total % 60);
}

static void print_child(const char *name, const cJSON *row, const char *load)
{
	char uptime[32];

	format_uptime(reply_number(row, "uptime_seconds"), uptime);
	printf("%-10s %10.0f %4.0f  %-10s %14s %8.0f  %s\n", name, reply_number(row, "pid"),
	    reply_number(row, "generation"), reply_text(row, "state"), uptime,
	    reply_number(row, "restarts"), load);
}

static void print_children(const cJSON *status)
{
	const cJSON *broker = cJSON_GetObjectItemCaseSensitive(status, "broker");
	const cJSON *keeper = cJSON_GetObjectItemCaseSensitive(status, "keeper"), *row;
	char name[32], load[96];

	printf("%-10s %10s %4s  %-10s %14s %8s  %s\n", "process", "pid", "gen", "state", "uptime",
	    "restarts", "load");
	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(status, "workers"))
	{
		snprintf(name, sizeof(name), "worker %.0f", reply_number(row, "number"));
		snprintf(load, sizeof(load), "%.0f slots, %.0f connections, %.0f requests%s",
		    reply_number(row, "slots"), reply_number(row, "connections"),
		    reply_number(row, "requests"),
		    cJSON_IsTrue(cJSON_GetObjectItem(row, "silent")) ? ", does not turn" : "");
		print_child(name, row, load);
	}
	snprintf(load, sizeof(load), "%.0f sessions", reply_number(broker, "sessions"));
	print_child("broker", broker, load);
	snprintf(load, sizeof(load), "%.0f children, limited by %.40s",
	    reply_number(keeper, "children"), reply_text(keeper, "limits"));
	print_child("keeper", keeper, load);
}

static void print_generations(const cJSON *status)
{
	const cJSON *row;
	char age[32];

	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(status, "generations"))
	{
		format_uptime(reply_number(row, "age_seconds"), age);
		printf("gen %-4.0f %s, %s old, %.0f connections", reply_number(row, "number"),
		    reply_text(row, "state"), age, reply_number(row, "connections"));
		if (reply_number(row, "slots_adopted") > 0)
			printf(", %.0f slots adopted", reply_number(row, "slots_adopted"));
		if (strcmp(reply_text(row, "state"), "draining") == 0)
			printf(", cut off in %.0f s", reply_number(row, "deadline_seconds"));
		putchar('\n');
	}
	if (reply_number(status, "other_master") > 0)
		printf("upgrade  the old master, %.0f, waits for its workers: `margay rollback` is "
		       "possible\n",
		    reply_number(status, "other_master"));
}

static void print_status(const cJSON *status)
{
	const cJSON *config = cJSON_GetObjectItemCaseSensitive(status, "config");
	const cJSON *reload = cJSON_GetObjectItemCaseSensitive(status, "last_reload"), *row;
	const cJSON *sessions = cJSON_GetObjectItemCaseSensitive(status, "sessions");
	char uptime[32];

	format_uptime(reply_number(status, "uptime_seconds"), uptime);
	printf("margay %s, master %.0f, up %s, generation %.0f\n", reply_text(status, "version"),
	    reply_number(status, "pid"), uptime, reply_number(status, "generation"));
	printf("config   %s (sha256 %.12s)\n", reply_text(config, "file"),
	    reply_text(config, "sha256"));
	printf("reload   %s: %s\n",
	    cJSON_IsTrue(cJSON_GetObjectItem(reload, "ok")) ? "ok" : "FAILED",
	    reply_text(reload, "message"));
	print_generations(status);
	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(status, "listen")) printf(
	    "%-8s %s%s\n", cJSON_IsTrue(cJSON_GetObjectItem(row, "admin")) ? "admin" : "listen",
	    reply_text(row, "address"),
	    cJSON_IsTrue(cJSON_GetObjectItem(row, "tls")) ? " (TLS)" : "");
	printf("sessions %.0f active, %.0f created\n\n", reply_number(sessions, "active"),
	    reply_number(sessions, "created"));
	print_children(status);
}

int status_main(int argc, char **argv)
{
	struct ctl_options options;
	cJSON *reply;
	int fd, code = ctl_parse_options(argc, argv, CTL_JSON, NULL, &options);

	if (code || (code = ctl_request(&options, "status", &reply, &fd)))
		return code;
	close(fd);
	if (options.json) {
		char *text = cJSON_Print(reply);
		puts(text ? text : "{}");
		free(text);
	} else {
		print_status(reply);
	}
	cJSON_Delete(reply);
	return EXIT_OK;
}

/* --- reload
 * ----------------------------------------------------------------------------------------- */

static void print_errors(const cJSON *reply)
{
	const cJSON *row;

	cJSON_ArrayForEach(row, cJSON_GetObjectItemCaseSensitive(reply, "errors"))
	{
		char line[16] = "";
		if (reply_number(row, "line") > 0)
			snprintf(line, sizeof(line), ":%.0f", reply_number(row, "line"));
		fprintf(stderr, "%s%s: %s: %s; %s\n", reply_text(row, "file"), line,
		    reply_text(row, "key"), reply_text(row, "problem"), reply_text(row, "remedy"));
	}
}

int reload_main(int argc, char **argv)
{
	struct ctl_options options;
	cJSON *reply;
	int fd, code = ctl_parse_options(argc, argv, CTL_JSON, NULL, &options);

	if (code || (code = ctl_request(&options, "reload", &reply, &fd)))
		return code;
	close(fd);
	bool ok = cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok"));
	char *text = options.json ? cJSON_Print(reply) : NULL;
	if (options.json)
		puts(text ? text : "{}");
	free(text);
	if (ok && !options.json) {
		printf("reloaded: generation %.0f serves\n", reply_number(reply, "generation"));
	} else if (!ok) {
		print_errors(reply);
		fprintf(stderr, "margay: reload failed: %s; generation %.0f serves on\n",
		    reply_text(reply, "message"), reply_number(reply, "generation"));
	}
	cJSON_Delete(reply);
	return ok ? EXIT_OK : EXIT_FAILED;
}

/* --- stop
 * ------------------------------------------------------------------------------------------- */

int stop_main(int argc, char **argv)
{
	struct ctl_options options;
	cJSON *reply;
	char byte;
	int fd, code = ctl_parse_options(argc, argv, 0, NULL, &options);

	if (code || (code = ctl_request(&options, "stop", &reply, &fd)))
		return code;
	cJSON_Delete(reply);
	/* The master's end closes the connection. */
	while (recv(fd, &byte, 1, 0) < 0 && errno == EINTR) {
	}
	close(fd);
	puts("stopped");
	return EXIT_OK;
}
