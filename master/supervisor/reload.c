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
#include "master/supervisor/upgrade.h"

bool reload_busy(const struct supervisor *s)
{
	return s->reload.checker || s->reload.next;
}

void reload_deferred(struct supervisor *s)
{
	if (!s->reload.again)
		return;
	s->reload.again = false;
	reload_request(s);
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
	reload_deferred(s);
}

/* A return to an older configuration is no success of the last one that was asked for. */
static void gone_back(struct supervisor *s)
{
	char why[sizeof(s->reload.back)];

	memcpy(why, s->reload.back, sizeof(why));
	s->reload.back[0] = '\0';
	reload_over(s, false, why, NULL);
	upgrade_returned(s, true, why);
}

void reload_ready(struct supervisor *s)
{
	struct generation *g = s->reload.next;

	if (!g || heir_waits(s))
		return;
	log_configure(s->log, g->config->log.level, g->config->log.format);
	generation_commit(g);
	s->reload.next = NULL;
	if (s->state == SUPERVISOR_STARTING)
		supervisor_started(s);
	if (s->reload.back[0])
		gone_back(s);
	else
		reload_over(s, true, "serving", NULL);
}

void reload_failed(struct supervisor *s, const char *why)
{
	struct generation *g = s->reload.next;

	s->reload.next = NULL;
	s->reload.back[0] = '\0';
	if (g)
		generation_abort(g);
	upgrade_returned(s, false, why);
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

void reload_back(struct supervisor *s, int config_fd, const char *why)
{
	struct buffer bytes = {0};
	char text[200];

	LOG(s->log, LOG_LEVEL_ERROR, "an older configuration is taken back",
	    LOG_STR("reason", why));
	int error = generation_read(config_fd, &bytes);
	struct config *config = error ? NULL : generation_parse(s, buffer_span(&bytes));
	struct generation *g =
	    config ? generation_create(s, config, buffer_span(&bytes), text, sizeof(text)) : NULL;
	buffer_release(&bytes);
	if (!g) {
		reload_over(s, false, "the older configuration can't be taken back", NULL);
		upgrade_returned(s, false, s->reload.message);
		return;
	}
	s->reload.next = g;
	snprintf(s->reload.back, sizeof(s->reload.back), "%s", why);
	if (generation_start(g))
		reload_failed(s, "the workers of the older configuration can't be started");
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

	if (s->state == SUPERVISOR_STOPPING || s->state == SUPERVISOR_RETIRED)
		return;
	if (s->current && s->current->config->connected) {
		/* There is no file that could have changed: the terminal is gone. */
		supervisor_stop(s, false);
		return;
	}
	if (reload_busy(s) || s->state == SUPERVISOR_STARTING || upgrade_busy(s)) {
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
