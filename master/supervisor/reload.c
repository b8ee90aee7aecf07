/*
 * reload: a new configuration taken into service as a transaction.
 *
 *   read the file -> check it in a child -> bind what is new -> start the new workers -> all READY
 * -> commit
 *
 * Until the commit the serving generation has heard of nothing; whatever fails before undoes
 * itself. One reload at a time; a request during one runs after it.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "master/supervisor/checker.h"
#include "master/supervisor/children.h"

bool reload_busy(const struct supervisor *s)
{
	return s->reload.checker || s->reload.next;
}

/* The end of a reload, one way or the other. */
static void reload_over(struct supervisor *s, bool ok, const char *message, cJSON *errors)
{
	struct reload *r = &s->reload;

	cJSON_Delete(r->errors);
	r->errors = errors;
	r->ok = ok;
	r->time = ev_now(s->loop);
	r->next = NULL;
	snprintf(r->message, sizeof(r->message), "%s", message);
	METRIC_SET(s->cells, RELOAD_SUCCESS, ok, 0);
	if (ok)
		METRIC_SET(s->cells, RELOAD_TIME, (uint64_t)r->time, 0);
	LOG(s->log, ok ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR,
	    ok ? "configuration taken" : "configuration refused", LOG_STR("reason", message),
	    LOG_UINT("generation", s->current ? s->current->number : 0));
	log_flush(s->log);
	/* Ready again, whatever came of it: something serves. */
	notify_tell(&s->notify, "READY=1\nSTATUS=generation %u serves with %u workers; %s",
	    s->current ? s->current->number : 0, s->current ? s->current->config->workers : 0,
	    message);
	if (s->control)
		control_reload_done(s->control);
	if (r->again) {
		r->again = false;
		reload_request(s);
	}
}

void reload_ready(struct supervisor *s)
{
	struct generation *g = s->reload.next;

	if (!g)
		return;
	log_configure(s->log, g->config->log.level, g->config->log.format);
	generation_commit(g);
	s->reload.next = NULL;
	if (s->state == SUPERVISOR_STARTING)
		supervisor_started(s);
	reload_over(s, true, "serving", NULL);
}

void reload_failed(struct supervisor *s, const char *why)
{
	struct generation *g = s->reload.next;

	s->reload.next = NULL;
	if (g)
		generation_abort(g);
	if (s->state == SUPERVISOR_STARTING) {
		supervisor_fail(s, why);
		return;
	}
	if (g)
		reload_over(s, false, why, NULL);
}

static void log_errors(struct supervisor *s, const cJSON *errors)
{
	const cJSON *row;

	cJSON_ArrayForEach(row, errors)
	{
		const cJSON *line = cJSON_GetObjectItem(row, "line");
		LOG(s->log, LOG_LEVEL_ERROR, "configuration error",
		    LOG_STR("file", cJSON_GetStringValue(cJSON_GetObjectItem(row, "file"))),
		    LOG_INT("line", cJSON_IsNumber(line) ? line->valueint : 0),
		    LOG_STR("key", cJSON_GetStringValue(cJSON_GetObjectItem(row, "key"))),
		    LOG_STR("problem", cJSON_GetStringValue(cJSON_GetObjectItem(row, "problem"))),
		    LOG_STR("remedy", cJSON_GetStringValue(cJSON_GetObjectItem(row, "remedy"))));
	}
}

/* The bytes passed their check: into service with them. */
static void take(struct supervisor *s, struct span bytes)
{
	struct config_errors errors;
	struct config *config;
	char why[200];

	if (config_parse(bytes, &s->source.defaults, &config, &errors)) {
		config_errors_free(&errors);
		reload_over(s, false, "out of memory", NULL);
		return;
	}
	if (strcmp(config->runtime_dir, s->runtime_dir) != 0) {
		config_free(config);
		reload_over(s, false,
		    "runtime_dir can't change while Margay runs: stop and start it", NULL);
		return;
	}
	struct generation *g = generation_create(s, config, bytes, why, sizeof(why));
	if (!g) {
		reload_over(s, false, why, NULL);
		return;
	}
	s->reload.next = g;
	if (generation_start(g))
		reload_failed(s, "the new workers can't be started");
}

static void on_checked(struct checker *checker, cJSON *errors)
{
	struct supervisor *s = checker_context(checker);
	int count = cJSON_GetArraySize(errors);
	char message[80];

	s->reload.checker = NULL;
	if (count == 0) {
		cJSON_Delete(errors);
		take(s, buffer_span(checker_bytes(checker)));
		return;
	}
	log_errors(s, errors);
	snprintf(message, sizeof(message), "the configuration has %d error%s", count,
	    count == 1 ? "" : "s");
	reload_over(s, false, message, errors);
}

void reload_request(struct supervisor *s)
{
	struct buffer bytes = {0};
	char why[200];

	if (s->state == SUPERVISOR_STOPPING)
		return;
	if (s->current && s->current->config->connected) {
		/* There is no file that could have changed: the terminal is gone. */
		supervisor_stop(s, false);
		return;
	}
	if (reload_busy(s) || s->state == SUPERVISOR_STARTING) {
		s->reload.again = true;
		return;
	}
	METRIC_ADD(s->cells, RELOADS, 1, 0);
	notify_tell(&s->notify, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reloading",
	    (unsigned long long)(clock_nanoseconds() / 1000));
	LOG_TEXT(s->log, LOG_LEVEL_INFO, "reload begins");
	int error = source_read(&s->source, &bytes);
	if (!error)
		error = checker_start(s->loop, source_name(&s->source), &s->source.defaults, &bytes,
		    on_checked, s, &s->reload.checker);
	if (!error)
		return;
	buffer_release(&bytes);
	snprintf(why, sizeof(why), "%.120s can't be read or checked: %s", source_name(&s->source),
	    strerror(-error));
	reload_over(s, false, why, NULL);
}

void reload_cancel(struct supervisor *s)
{
	s->reload.again = false;
	if (s->reload.checker) {
		checker_cancel(s->reload.checker);
		s->reload.checker = NULL;
	}
	if (s->reload.next) {
		generation_abort(s->reload.next);
		s->reload.next = NULL;
	}
}
