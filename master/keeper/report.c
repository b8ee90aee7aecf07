/* report: what `margay upstreams` shows of stdio upstreams, as JSON in a memfd. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "master/keeper/peer.h"

static const char *sharing_name(const struct config_stdio *stdio)
{
	static const char *const names[] = {[CONFIG_PER_SESSION] = "per_session",
	    [CONFIG_SHARED] = "shared",
	    [CONFIG_POOL] = "pool"};

	return names[stdio->sharing];
}

static cJSON *child_row(const struct instance *i)
{
	cJSON *row = cJSON_CreateObject();

	cJSON_AddNumberToObject(row, "id", (double)i->id);
	cJSON_AddNumberToObject(row, "pid", i->pid);
	cJSON_AddStringToObject(row, "state", instance_state_name(i));
	cJSON_AddNumberToObject(row, "sessions", HASH_COUNT(i->links));
	cJSON_AddNumberToObject(row, "calls", HASH_COUNT(i->calls));
	cJSON_AddNumberToObject(
	    row, "uptime_seconds", i->pid > 0 ? clock_coarse() - i->started : 0);
	cJSON_AddNumberToObject(row, "memory_bytes", (double)i->memory);
	cJSON_AddNumberToObject(row, "restarts", i->restarts);
	cJSON_AddStringToObject(row, "last_stderr", i->last_noise);
	return row;
}

static const char *fleet_state(const struct fleet *f)
{
	if (f->retired)
		return "ending";
	if (f->failures >= f->config->failures)
		return "broken";
	if (f->failures > 0)
		return "backoff";
	return f->running > 0 ? "running" : "idle";
}

static cJSON *fleet_row(const struct fleet *f)
{
	cJSON *row = cJSON_CreateObject();
	const struct instance *i;
	double restarts = 0;

	cJSON_AddStringToObject(row, "name", f->name);
	cJSON_AddStringToObject(row, "kind", f->config->url ? "sse" : "stdio");
	cJSON_AddStringToObject(row, "state", fleet_state(f));
	cJSON_AddStringToObject(row, "sharing", sharing_name(f->config));
	cJSON_AddStringToObject(row, "command", f->config->command ? f->config->command : "");
	if (f->config->url)
		cJSON_AddStringToObject(row, "url", f->config->url);
	cJSON *children = cJSON_AddArrayToObject(row, "children");
	TAILQ_FOREACH (i, &f->instances, link) {
		restarts += i->restarts;
		cJSON_AddItemToArray(children, child_row(i));
	}
	cJSON_AddNumberToObject(row, "sessions", f->sessions);
	cJSON_AddNumberToObject(row, "starts", (double)f->starts);
	cJSON_AddNumberToObject(row, "restarts", restarts);
	cJSON_AddNumberToObject(row, "deaths", (double)f->deaths);
	cJSON_AddNumberToObject(row, "failures", (double)f->start_failures);
	cJSON_AddNumberToObject(row, "calls_lost", (double)f->lost);
	cJSON_AddStringToObject(row, "last_error", f->last_error);
	return row;
}

/* Takes the object. */
static int to_memfd(cJSON *object)
{
	char *text = cJSON_PrintUnformatted(object);
	size_t n = text ? strlen(text) : 0;
	int fd = text ? memfd_create("margay-report", MFD_CLOEXEC) : -1;

	cJSON_Delete(object);
	if (fd >= 0 && pwrite(fd, text, n, 0) != (ssize_t)n) {
		close(fd);
		fd = -1;
	}
	free(text);
	return fd < 0 ? -ENOMEM : fd;
}

int report_upstreams(struct keeper *k)
{
	cJSON *object = cJSON_CreateObject();
	cJSON *rows = cJSON_AddArrayToObject(object, "upstreams");
	const struct fleet *f;

	TAILQ_FOREACH (f, &k->fleets, link)
		cJSON_AddItemToArray(rows, fleet_row(f));
	return to_memfd(object);
}

int report_outcome(bool ok, const char *message)
{
	cJSON *object = cJSON_CreateObject();

	cJSON_AddBoolToObject(object, "ok", ok);
	cJSON_AddStringToObject(object, "message", message);
	return to_memfd(object);
}
