/*
 * supervisor: see supervisor.h. Start, signals, stop.
 *
 * What is there before the first fork is inherited by all; what is opened here and must not be, is
 * closed by process.c. The loop is libev's default one, because only that one reaps children.
 */
#include "master/supervisor/supervisor.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cjson/cJSON.h>

#include "common/address.h"
#include "common/clock.h"
#include "common/exit_code.h"
#include "common/ipc/channel.h"
#include "common/title.h"
#include "master/supervisor/children.h"
#include "master/supervisor/daemon.h"
#include "master/supervisor/estate.h"
#include "master/supervisor/inventory.h"
#include "master/supervisor/upgrade.h"

static const double heartbeat_every = 0.25; /* seconds */
/* What broker and keeper get to end: the keeper ends its children first. */
static const double end_patience = 6;

struct options {
	struct source_options source;
	bool daemon;
};

static void say(const char *text)
{
	fprintf(stderr, "margay: %s\n", text);
}

static int failed_start(const char *what, int error)
{
	fprintf(stderr, "margay: %s: %s\n", what, strerror(error));
	return EXIT_FAILED;
}

/* --- stopping
 * --------------------------------------------------------------------------------------- */

static void on_stop_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct supervisor *s = container_of(timer, struct supervisor, stop_deadline);
	struct generation *g;
	struct child *c;

	(void)loop;
	(void)events;
	TAILQ_FOREACH (g, &s->generations, link) {
		TAILQ_FOREACH (c, &g->workers, link)
			child_kill(c);
	}
	child_kill(s->broker);
	child_kill(s->keeper);
}

void supervisor_check_stopped(struct supervisor *s)
{
	if (s->state != SUPERVISOR_STOPPING || !TAILQ_EMPTY(&s->generations))
		return;
	if (s->broker->pid <= 0 && s->keeper->pid <= 0) {
		ev_timer_stop(s->loop, &s->broker->restart);
		ev_timer_stop(s->loop, &s->keeper->restart);
		ev_break(s->loop, EVBREAK_ALL);
		return;
	}
	/* The last workers are gone: so may the broker and the keeper. */
	if (s->broker->expected)
		return;
	s->broker->expected = s->keeper->expected = true;
	child_tell(s->broker, CHANNEL_STOP, NULL, 0, -1);
	child_tell(s->keeper, CHANNEL_STOP, NULL, 0, -1);
	ev_timer_stop(s->loop, &s->stop_deadline);
	ev_timer_set(&s->stop_deadline, end_patience, 0);
	ev_timer_start(s->loop, &s->stop_deadline);
}

void supervisor_stop(struct supervisor *s, bool at_once)
{
	struct generation *g, *next;
	struct child *c;

	upgrade_cancel(s);
	if (s->state != SUPERVISOR_STOPPING)
		LOG(s->log, LOG_LEVEL_INFO, "stopping",
		    LOG_STR("how", at_once ? "at once" : "gracefully"));
	s->state = SUPERVISOR_STOPPING;
	upgrade_stop(s);
	if (s->owns && !upgrade_busy(s))
		inventory_withdraw(s);
	notify_tell(&s->notify, "STOPPING=1\nSTATUS=stopping");
	reload_cancel(s);
	TAILQ_FOREACH_SAFE (g, &s->generations, link, next)
		generation_drain(g);
	/* Not those of a master that lives, nor what the next try of a failed start needs. */
	if (s->owns && !s->exit_code) {
		listeners_refuse(s->listeners);
		store_clear(s);
	}
	TAILQ_FOREACH_SAFE (g, &s->generations, link, next) {
		TAILQ_FOREACH (c, &g->workers, link) {
			child_tell(c, at_once ? CHANNEL_STOP : CHANNEL_LAST, NULL, 0, -1);
		}
		generation_update(g);
	}
	if (at_once) {
		ev_timer_stop(s->loop, &s->stop_deadline);
		ev_timer_set(&s->stop_deadline, end_patience, 0);
		ev_timer_start(s->loop, &s->stop_deadline);
	}
	supervisor_check_stopped(s);
}

void supervisor_fail(struct supervisor *s, const char *why)
{
	if (s->exit_code)
		return;
	s->exit_code = EXIT_FAILED;
	LOG(s->log, LOG_LEVEL_ERROR, "start failed", LOG_STR("reason", why));
	fprintf(stderr, "margay: start failed: %s; the log says more\n", why);
	supervisor_stop(s, true);
}

static void supervisor_serving(struct supervisor *s);

void supervisor_started(struct supervisor *s)
{
	s->state = SUPERVISOR_RUNNING;
	for (size_t i = 0; i < s->current->listeners.count; i++) {
		const struct listener *l = &s->current->listeners.rows[i];
		LOG(s->log, LOG_LEVEL_INFO, l->admin ? "admin listens" : "listens",
		    LOG_STR("address", l->config->address.text));
	}
	METRIC_SET(s->cells, START_TIME, (uint64_t)s->started, 0);
	supervisor_serving(s);
}

/* Whoever waits for us to serve is told. */
static void supervisor_serving(struct supervisor *s)
{
	const struct config *config = s->current->config;

	LOG(s->log, LOG_LEVEL_INFO, "running", LOG_STR("version", MARGAY_VERSION),
	    LOG_STR("config", source_name(&s->source)), LOG_UINT("workers", config->workers));
	log_flush(s->log);
	source_announce(&s->source, config);
	if (s->daemon_report >= 0) {
		daemon_report(s->daemon_report, EXIT_OK);
		s->daemon_report = -1;
	}
}

/* --- signals
 * ---------------------------------------------------------------------------------------- */

static void reopen_logs(struct supervisor *s)
{
	struct generation *g;
	struct child *c;

	int error = log_reopen(s->log);
	if (error) {
		LOG(s->log, LOG_LEVEL_ERROR, "log can't be reopened; the old one stays in use",
		    LOG_ERRNO(-error));
		return;
	}
	if (log_fd(s->log) < 0)
		return;
	child_tell(s->broker, CHANNEL_LOG, NULL, 0, log_fd(s->log));
	child_tell(s->keeper, CHANNEL_LOG, NULL, 0, log_fd(s->log));
	TAILQ_FOREACH (g, &s->generations, link) {
		TAILQ_FOREACH (c, &g->workers, link)
			child_tell(c, CHANNEL_LOG, NULL, 0, log_fd(s->log));
	}
	LOG_TEXT(s->log, LOG_LEVEL_INFO, "log reopened");
}

static void stop_gracefully(struct supervisor *s)
{
	upgrade_cancel(s);
	if (s->state == SUPERVISOR_RETIRED)
		ev_break(s->loop, EVBREAK_ALL);
	else
		supervisor_stop(s, false);
}

static void stop_at_once(struct supervisor *s)
{
	upgrade_cancel(s);
	if (s->state == SUPERVISOR_RETIRED)
		ev_break(s->loop, EVBREAK_ALL);
	else
		supervisor_stop(s, true);
}

static void upgrade_by_signal(struct supervisor *s)
{
	char why[200];

	if (upgrade_start(s, NULL, why, sizeof(why)))
		LOG(s->log, LOG_LEVEL_ERROR, "upgrade refused", LOG_STR("reason", why));
}

static const struct {
	int number;
	void (*act)(struct supervisor *s);
} signal_rows[] = {
    {SIGHUP, reload_request},
    {SIGTERM, stop_gracefully},
    {SIGINT, stop_gracefully},
    {SIGQUIT, stop_at_once},
    {SIGUSR1, reopen_logs},
    {SIGUSR2, upgrade_by_signal},
};

enum { SIGNAL_COUNT = sizeof(signal_rows) / sizeof(signal_rows[0]) };
_Static_assert((int)SIGNAL_COUNT <= SUPERVISOR_SIGNALS, "each has a watcher");

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct supervisor *s = ev_userdata(loop);

	(void)events;
	for (size_t i = 0; i < SIGNAL_COUNT; i++) {
		if (signal_rows[i].number == watcher->signum)
			signal_rows[i].act(s);
	}
}

/* Somebody accepts: what a watchdog is to know. */
static bool is_serving(const struct supervisor *s)
{
	const struct child *c;

	if (s->state != SUPERVISOR_RUNNING || !s->current)
		return true; /* starting and stopping have deadlines of their own */
	TAILQ_FOREACH (c, &s->current->workers, link) {
		if (c->state == CHILD_ACCEPTING)
			return true;
	}
	return false;
}

static void on_heartbeat(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct supervisor *s = container_of(timer, struct supervisor, heartbeat);

	(void)loop;
	(void)events;
	metrics_heartbeat(s->cells, clock_nanoseconds());
	watchdog_check(s);
	status_measure(s);
	notify_watchdog(&s->notify, clock_coarse(), is_serving(s));
	log_flush(s->log);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	(void)loop;
	(void)events;
	inventory_update(container_of(prepare, struct supervisor, prepare));
}

static void watchers_start(struct supervisor *s)
{
	ev_set_userdata(s->loop, s);
	for (size_t i = 0; i < SIGNAL_COUNT; i++) {
		ev_signal_init(&s->signals[i], on_signal, signal_rows[i].number);
		ev_signal_start(s->loop, &s->signals[i]);
	}
	signal(SIGPIPE, SIG_IGN);
	ev_timer_init(&s->stop_deadline, on_stop_deadline, 0, 0);
	ev_timer_init(&s->heartbeat, on_heartbeat, 0, heartbeat_every);
	ev_timer_start(s->loop, &s->heartbeat);
	ev_prepare_init(&s->prepare, on_prepare);
	ev_prepare_start(s->loop, &s->prepare);
}

/* --- starting
 * --------------------------------------------------------------------------------------- */

/* The configuration and its bytes, or NULL with an exit code after stderr got every error. */
static struct config *load_config(const struct source *source, struct buffer *bytes, int *code)
{
	const char *name = source_name(source);
	struct buffer text = {0};
	struct config_errors errors;
	struct config *config = NULL;

	*code = EXIT_CONFIG;
	int error = source_read(source, false, bytes);
	if (error) {
		fprintf(stderr, "margay: %s can't be read: %s\n", name, strerror(-error));
	} else if (config_parse(buffer_span(bytes), &source->defaults, &config, &errors)) {
		config = NULL;
		if (config_errors_print(&errors, name, &text) == 0)
			fprintf(stderr, "%.*s", (int)buffer_length(&text), buffer_span(&text).p);
		config_errors_free(&errors);
	}
	buffer_release(&text);
	return config;
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int open_log(struct supervisor *s, const struct config *config, bool daemon)
{
	bool nowhere = daemon && strcmp(config->log.file, "stderr") == 0;
	struct log_options how = {.level = config->log.level,
	    .format = config->log.format,
	    .file = nowhere ? "syslog" : config->log.file};
	int error = log_open(&how, "master", &s->log);

	if (error)
		fprintf(stderr, "margay: log.file: can't log to %s: %s; %s\n", how.file,
		    strerror(-error),
		    nowhere ? "with --daemon set log.file to a path, or start a syslog daemon"
			    : "name a file that can be written");
	return error;
}

/* The first generation, as a reload that has nothing to go back to. Takes `config`. */
static void start_first(struct supervisor *s, struct config *config, struct span bytes)
{
	struct config_errors errors = {0};
	struct buffer text = {0};

	struct generation *g = generation_create(s, config, bytes, &errors);
	if (!g) {
		if (config_errors_print(&errors, source_name(&s->source), &text) == 0)
			fprintf(stderr, "%.*s", (int)buffer_length(&text), buffer_span(&text).p);
		buffer_release(&text);
		supervisor_fail(s, errors.count > 0 ? errors.rows[0].problem : "out of memory");
		config_errors_free(&errors);
		return;
	}
	s->reload.next = g;
	if (!s->upgrade) {
		child_spawn(s->broker);
		child_spawn(s->keeper);
	}
	if (generation_start(g))
		reload_failed(s, "the workers can't be started");
}

static void supervisor_close(struct supervisor *s)
{
	notify_close(&s->notify);
	if (s->control)
		control_close(s->control);
	if (s->broker)
		child_free(s->broker);
	if (s->keeper)
		child_free(s->keeper);
	upgrade_close(s);
	manifest_close(&s->manifest);
	manifest_close(&s->heritage.manifest);
	estate_close(s);
	cJSON_Delete(s->reload.errors);
	if (s->log) {
		LOG_TEXT(s->log, LOG_LEVEL_INFO, s->owns ? "stopped" : "ended");
		log_close(s->log);
	}
	if (s->daemon_report >= 0)
		daemon_report(s->daemon_report, s->exit_code);
	activation_close(&s->activation);
	source_close(&s->source);
	free(s->program);
	free(s->runtime_dir);
	free(s);
}

/* Where another master's possessions may come from. 0 or an exit code. */
static int look_for_heritage(struct supervisor *s, int old_master)
{
	char why[300] = "";

	int error = old_master >= 0 ? heir_begin(s, old_master, why, sizeof(why))
				    : takeover_begin(s, why, sizeof(why));
	if (!error)
		return 0;
	fprintf(stderr, "margay: %s\n", why);
	return EXIT_FAILED;
}

/* All that outlives other processes; then this is the master, unless an old one still is. */
static int open_estate(struct supervisor *s, const struct config *config)
{
	char why[160];

	int error = estate_open(s, config, why, sizeof(why));
	/* What can't be taken over stays with those who have it. */
	s->owns = !s->upgrade && !(error && s->heritage.alive);
	if (!error && s->owns && !s->heritage.alive) {
		snprintf(why, sizeof(why), "control socket");
		error = control_open(s, -1, &s->control);
	}
	if (!error)
		return 0;
	fprintf(stderr, "margay: %s: %s: %s\n", s->runtime_dir, why, strerror(-error));
	return EXIT_FAILED;
}

/* Whether another configuration serves than the one that was read now. */
static bool differs(const struct generation *g, const struct config *config, struct span bytes)
{
	char sha256[CONFIG_SHA256_TEXT] = "";
	struct buffer sealed = {0};

	if (config_seal(config, bytes, &sealed) == 0)
		config_sha256(buffer_span(&sealed), sha256);
	buffer_release(&sealed);
	return strcmp(sha256, g->sha256) != 0;
}

/* The processes of a dead master go on under this one; then what the file says now is taken. */
static void take_over(struct supervisor *s, const struct config *config, struct span bytes)
{
	struct generation *g, *next;
	char why[200];

	int error = inherit_all(s, why, sizeof(why));
	if (!error && !s->current)
		error = -ENOENT;
	if (!error)
		error = control_open(s, -1, &s->control);
	if (error) {
		s->owns = false;
		if (s->metrics_are_inherited)
			metrics_slot_reaped(s->metrics, s->metrics_slot);
		inherit_give_up(s, why);
		return;
	}
	metrics_reap_gone(s->metrics);
	LOG(s->log, LOG_LEVEL_WARN, "taken over from a master that died",
	    LOG_UINT("generation", s->current->number));
	s->state = SUPERVISOR_RUNNING;
	METRIC_ADD(s->cells, TAKEOVERS, 1, 0);
	METRIC_SET(s->cells, START_TIME, (uint64_t)s->started, 0);
	METRIC_SET(s->cells, GENERATION, s->current->number, 0);
	METRIC_SET(s->cells, RELOAD_SUCCESS, s->reload.ok, 0);
	child_resume(s->broker);
	child_resume(s->keeper);
	listeners_commit(s->listeners, &s->current->listeners, s->loop);
	TAILQ_FOREACH_SAFE (g, &s->generations, link, next) {
		/* Its master died between two steps of a commit. */
		if (g != s->current && g->state == GENERATION_SERVING)
			generation_drain(g);
		generation_resume(g);
	}
	supervisor_serving(s);
	notify_tell(&s->notify, "READY=1\nSTATUS=generation %u serves on", s->current->number);
	if (differs(s->current, config, bytes))
		reload_request(s);
	inherit_settle(s);
}

/* Takes `config`. */
static int supervisor_run(
    struct supervisor *s, struct config *config, struct span bytes, bool daemon, int old_master)
{
	s->runtime_dir = strdup(config->runtime_dir);
	s->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
	s->started = ev_time();
	TAILQ_INIT(&s->generations);
	if (!s->runtime_dir || !s->loop || !(s->broker = child_create(s, ROLE_BROKER, NULL, 0)) ||
	    !(s->keeper = child_create(s, ROLE_KEEPER, NULL, 0)))
		s->exit_code = failed_start("start", ENOMEM);
	else if (old_master >= 0 || (s->exit_code = estate_claim(s, config)) == 0)
		s->exit_code = look_for_heritage(s, old_master);
	if (s->exit_code == 0 && open_log(s, config, daemon))
		s->exit_code = EXIT_FAILED;
	if (s->exit_code == 0)
		s->exit_code = activation_bequeath(s, config);
	if (s->exit_code == 0)
		s->exit_code = open_estate(s, config);
	if (s->exit_code) {
		config_free(config);
		return s->exit_code;
	}
	title_set("master");
	/* The children of a keeper that died become ours, so that somebody reaps them. */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	watchers_start(s);
	if (s->heritage.alive) {
		take_over(s, config, bytes);
		config_free(config);
	} else {
		start_first(s, config, bytes);
	}
	if (s->state != SUPERVISOR_STOPPING || s->broker->pid > 0 || s->keeper->pid > 0 ||
	    !TAILQ_EMPTY(&s->generations))
		ev_run(s->loop, 0);
	return s->exit_code;
}

static int parse_options(int argc, char **argv, struct options *out)
{
	static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
	    {"daemon", no_argument, NULL, 'd'}, {"mcp-servers", required_argument, NULL, 'm'},
	    {"upstream", required_argument, NULL, 'u'}, {"port", required_argument, NULL, 'p'},
	    {0}};
	struct source_options *source = &out->source;
	int c;

	while ((c = getopt_long(argc, argv, "+c:dp:", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			source->config = optarg;
			break;
		case 'd':
			out->daemon = true;
			break;
		case 'm':
			source->mcp_servers = optarg;
			break;
		case 'u':
			source->upstream = optarg;
			break;
		case 'p':
			source->port = optarg;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		source->command = argv + optind;
	uint16_t port;
	if (source->port && address_port_parse(source->port, &port)) {
		say("--port takes a number from 1 to 65535");
		return EXIT_USAGE;
	}
	int sources =
	    !!source->config + !!source->mcp_servers + !!source->upstream + !!source->command;
	if (sources == 1 && !(source->port && source->config))
		return 0;
	say(sources == 0 ? "say what to serve: margay run -c FILE, or margay run -- COMMAND"
	    : sources > 1
		? "one of -c, --mcp-servers, --upstream and a command is enough"
		: "the configuration says where to listen: --port is for the other ways to run");
	return EXIT_USAGE;
}

/* Of the master that started us as its successor; -1: none did. */
static int upgrade_socket(void)
{
	char *number = getenv(UPGRADE_VARIABLE);
	int fd = number ? atoi(number) : -1;

	if (number)
		number[0] = '\0'; /* it is for us, not for whom we start */
	if (fd < 3 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -1;
	return fd;
}

/* A supervisor that owns nothing yet. */
static struct supervisor *supervisor_create(void)
{
	struct supervisor *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->broker_listener = s->keeper_listener = s->children_file = s->daemon_report = -1;
	s->pid_file = -1;
	manifest_unread(&s->manifest, MANIFEST_HOLDER);
	s->program = realpath("/proc/self/exe", NULL);
	memset(s->journal, -1, sizeof(s->journal));
	notify_open(&s->notify);
	return s;
}

int supervisor_main(int argc, char **argv)
{
	struct options options = {0};
	int code = parse_options(argc, argv, &options);

	return code ? code : supervisor_serve(&options.source, options.daemon);
}

int supervisor_serve(const struct source_options *source, bool daemon)
{
	struct buffer bytes = {0};
	struct config *config = NULL;
	char why[200];
	int code;

	struct supervisor *s = supervisor_create();
	if (!s)
		return failed_start("start", ENOMEM);
	int error = source_open(source, &s->source, why, sizeof(why));
	if (error)
		code = failed_start(why, -error);
	else
		config = load_config(&s->source, &bytes, &code);
	int old_master = upgrade_socket();
	s->daemon = daemon;
	if (config && (error = activation_take(&s->activation, why, sizeof(why)))) {
		code = failed_start(why, -error);
		config_free(config);
		config = NULL;
	}
	if (config && daemon && old_master < 0 && (code = daemon_detach(&s->daemon_report)) != 0) {
		code = failed_start("--daemon", -code);
		config_free(config);
		config = NULL;
	}
	if (config) {
		raise_descriptor_limit();
		code = supervisor_run(s, config, buffer_span(&bytes), daemon, old_master);
	}
	s->exit_code = code;
	buffer_release(&bytes);
	supervisor_close(s);
	return code;
}
