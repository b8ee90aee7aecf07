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
#include "master/supervisor/inventory.h"
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
	inherit_settle(s);
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

/* What a file is read with while this Margay runs. */
static struct config_defaults defaults_now(const struct supervisor *s)
{
	struct config_defaults defaults = s->source.defaults;

	defaults.running_dir = s->runtime_dir;
	return defaults;
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

/* Takes `errors`: rows as of checker_error; none at all: memory is short. */
static void refuse(struct supervisor *s, cJSON *errors)
{
	int count = cJSON_GetArraySize(errors);
	char message[80] = "out of memory";

	if (count > 0)
		snprintf(message, sizeof(message), "the configuration has %d error%s", count,
		    count == 1 ? "" : "s");
	log_errors(s, errors);
	reload_over(s, false, message, errors);
}

/* The bytes passed their check: into service with them. */
static void take(struct supervisor *s, struct span bytes)
{
	const struct config_defaults defaults = defaults_now(s);
	struct config_errors errors = {0};
	struct generation *g = NULL;
	struct config *config;

	if (config_parse(bytes, &defaults, &config, &errors) == 0)
		g = generation_create(s, config, bytes, &errors);
	if (!g)
		refuse(s, checker_errors(source_name(&s->source), &errors));
	config_errors_free(&errors);
	if (!g)
		return;
	s->reload.next = g;
	if (generation_start(g))
		reload_failed(s, "the new workers can't be started");
}

void reload_back(struct supervisor *s, int config_fd, const char *why)
{
	LOG(s->log, LOG_LEVEL_ERROR, "an older configuration is taken back",
	    LOG_STR("reason", why));
	struct generation *g = generation_restore(s, config_fd);
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

	s->reload.checker = NULL;
	if (cJSON_GetArraySize(errors) > 0) {
		refuse(s, errors);
		return;
	}
	cJSON_Delete(errors);
	take(s, buffer_span(checker_bytes(checker)));
}

/* The file is not there, or it can't be looked at. */
static void refuse_unread(struct supervisor *s, int error)
{
	cJSON *errors = cJSON_CreateArray();
	char problem[128];

	snprintf(problem, sizeof(problem), "the file can't be read: %s",
	    error == -ESPIPE ? "it is no regular file" : strerror(-error));
	cJSON_AddItemToArray(
	    errors, checker_error(source_name(&s->source), 0, "(document)", problem,
			"put a file there that the user of the master may read"));
	log_errors(s, errors);
	reload_over(s, false, problem, errors);
}

void reload_request(struct supervisor *s)
{
	const struct config_defaults defaults = defaults_now(s);
	struct buffer bytes = {0};

	if (s->state == SUPERVISOR_RETIRED)
		s->reload.again = upgrade_busy(s); /* for whoever is the master then */
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
	int error = source_read(&s->source, true, &bytes);
	if (error) {
		refuse_unread(s, error);
	} else if ((error = checker_start(s->loop, source_name(&s->source), &defaults, &bytes,
			on_checked, s, &s->reload.checker))) {
		LOG(s->log, LOG_LEVEL_ERROR, "the checker can't be started", LOG_ERRNO(-error));
		reload_over(s, false, "the checker can't be started; the log says why", NULL);
	}
	buffer_release(&bytes);
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
