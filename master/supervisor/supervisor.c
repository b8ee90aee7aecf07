/*
 * supervisor: see supervisor.h. Start, signals, stop.
 *
 * What is there before the first fork is inherited by all; what is opened here and must not be, is
 * closed by process.c. The loop is libev's default one, because only that one reaps children.
 */
#include "master/supervisor/supervisor.h"

#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <bsd/libutil.h>
#include <cjson/cJSON.h>

#include "common/address.h"
#include "common/clock.h"
#include "common/exit_code.h"
#include "common/ipc/channel.h"
#include "common/leftovers.h"
#include "common/title.h"
#include "master/supervisor/children.h"
#include "master/supervisor/daemon.h"

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

	if (s->state != SUPERVISOR_STOPPING)
		LOG(s->log, LOG_LEVEL_INFO, "stopping",
		    LOG_STR("how", at_once ? "at once" : "gracefully"));
	s->state = SUPERVISOR_STOPPING;
	notify_tell(&s->notify, "STOPPING=1\nSTATUS=stopping");
	reload_cancel(s);
	TAILQ_FOREACH_SAFE (g, &s->generations, link, next)
		generation_drain(g);
	listeners_refuse(s->listeners);
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

void supervisor_started(struct supervisor *s)
{
	const struct config *config = s->current->config;

	s->state = SUPERVISOR_RUNNING;
	for (size_t i = 0; i < s->current->listeners.count; i++) {
		const struct listener *l = &s->current->listeners.rows[i];
		LOG(s->log, LOG_LEVEL_INFO, l->admin ? "admin listens" : "listens",
		    LOG_STR("address", l->config->address.text));
	}
	METRIC_SET(s->cells, START_TIME, (uint64_t)s->started, 0);
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
	supervisor_stop(s, false);
}

static void stop_at_once(struct supervisor *s)
{
	supervisor_stop(s, true);
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
};

enum { SIGNAL_COUNT = sizeof(signal_rows) / sizeof(signal_rows[0]) };

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
	notify_watchdog(&s->notify, clock_coarse(), is_serving(s));
	log_flush(s->log);
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
	int error = source_read(source, bytes);
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

/* The directory, the pid file's lock. An exit code, 0 when all is well. */
static int claim_runtime_dir(struct supervisor *s, const struct config *config)
{
	char path[CONTROL_PATH_MAX];
	pid_t other = 0;

	/* With a user of their own, workers must get through to the broker's socket. */
	mode_t mode = config->user ? 0711 : 0700;
	if (mkdir(s->runtime_dir, mode) < 0 && errno != EEXIST)
		return failed_start(s->runtime_dir, errno);
	if (!control_path(s->runtime_dir, PID_FILE, path)) {
		say("runtime_dir is too long for a Unix socket: choose a shorter one");
		return EXIT_CONFIG;
	}
	s->pid_file = pidfile_open(path, 0644, &other);
	if (!s->pid_file && errno == EEXIST) {
		fprintf(stderr,
		    "margay: already running with this runtime_dir, as pid %d: stop it first, or "
		    "use another\n",
		    (int)other);
		return EXIT_FAILED;
	}
	if (!s->pid_file || pidfile_write(s->pid_file) < 0)
		return failed_start(path, errno);
	return 0;
}

/* A Unix socket in the runtime directory, for workers and nobody else. 0 or -errno. */
static int bind_socket(struct supervisor *s, const struct config *config, const char *name,
    int type, char path[CONTROL_PATH_MAX], int *out)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (!control_path(s->runtime_dir, name, path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, CONTROL_PATH_MAX);
	unlink(path);
	*out = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mode_t mask = umask(0177);
	int bound = *out < 0 ? -1 : bind(*out, (struct sockaddr *)&address, sizeof(address));
	int error = errno;
	umask(mask);
	if (bound < 0)
		return -error;
	const struct passwd *p = config->user && geteuid() == 0 ? getpwnam(config->user) : NULL;
	if (p && chown(path, p->pw_uid, p->pw_gid) < 0)
		return -errno;
	return listen(*out, 2 * CONFIG_WORKERS_MAX) < 0 ? -errno : 0;
}

/* End what a harder death left, and start the list of children anew. 0 or -errno. */
static int open_children_file(struct supervisor *s)
{
	char path[CONTROL_PATH_MAX];

	if (!control_path(s->runtime_dir, CHILDREN_FILE, path))
		return -ENAMETOOLONG;
	s->children_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->children_file < 0)
		return -errno;
	leftovers_end(s->children_file, s->log);
	return 0;
}

/* Everything that outlives the other processes. */
static int open_shared(struct supervisor *s, const struct config *config)
{
	int error;

	if ((error = metrics_create(&s->metrics)))
		return error;
	s->metrics_slot = metrics_slot_take(s->metrics, METRIC_SLOT_MASTER, 0, 0);
	s->cells = metrics_slot_open(s->metrics, s->metrics_slot, getpid());
	for (int i = 0; i < JOURNAL_COUNT; i++) {
		s->journal[i] = memfd_create("margay-journal", MFD_CLOEXEC);
		if (s->journal[i] < 0)
			return -errno;
	}
	if (getrandom(s->session_key, sizeof(s->session_key), 0) != sizeof(s->session_key))
		return -EIO;
	if ((error = listeners_open(&s->listeners)) ||
	    (error = bind_socket(
		 s, config, BROKER_SOCKET, SOCK_SEQPACKET, s->broker_path, &s->broker_listener)) ||
	    (error = bind_socket(
		 s, config, KEEPER_SOCKET, SOCK_STREAM, s->keeper_path, &s->keeper_listener)) ||
	    (error = open_children_file(s)))
		return error;
	return control_open(s, &s->control);
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
	char why[200];

	struct generation *g = generation_create(s, config, bytes, why, sizeof(why));
	if (!g) {
		supervisor_fail(s, why);
		return;
	}
	s->reload.next = g;
	child_spawn(s->broker);
	child_spawn(s->keeper);
	if (generation_start(g))
		reload_failed(s, "the workers can't be started");
}

/* Close and remove a socket or file of ours in the runtime directory. */
static void remove_file(const struct supervisor *s, int fd, const char *name)
{
	char path[CONTROL_PATH_MAX];

	if (fd < 0)
		return;
	close(fd);
	if (control_path(s->runtime_dir, name, path))
		unlink(path);
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
	if (s->listeners)
		listeners_close(s->listeners);
	vault_close(&s->vault);
	remove_file(s, s->broker_listener, BROKER_SOCKET);
	remove_file(s, s->keeper_listener, KEEPER_SOCKET);
	/* A keeper that had to be killed left its children. */
	if (s->children_file >= 0)
		leftovers_end(s->children_file, s->log);
	remove_file(s, s->children_file, CHILDREN_FILE);
	for (int i = 0; i < JOURNAL_COUNT; i++) {
		if (s->journal[i] >= 0)
			close(s->journal[i]);
	}
	cJSON_Delete(s->reload.errors);
	if (s->metrics)
		metrics_close(s->metrics);
	if (s->pid_file)
		pidfile_remove(s->pid_file);
	if (s->log) {
		LOG_TEXT(s->log, LOG_LEVEL_INFO, "stopped");
		log_close(s->log);
	}
	if (s->daemon_report >= 0)
		daemon_report(s->daemon_report, s->exit_code);
	source_close(&s->source);
	free(s->runtime_dir);
	free(s);
}

/* Takes `config`. */
static int supervisor_run(
    struct supervisor *s, struct config *config, struct span bytes, bool daemon)
{
	int error;

	s->runtime_dir = strdup(config->runtime_dir);
	s->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
	s->started = ev_time();
	TAILQ_INIT(&s->generations);
	if (!s->runtime_dir || !s->loop || !(s->broker = child_create(s, ROLE_BROKER, NULL, 0)) ||
	    !(s->keeper = child_create(s, ROLE_KEEPER, NULL, 0)))
		s->exit_code = failed_start("start", ENOMEM);
	else if ((s->exit_code = claim_runtime_dir(s, config)) == 0 && open_log(s, config, daemon))
		s->exit_code = EXIT_FAILED;
	if (s->exit_code == 0 && (error = open_shared(s, config)))
		s->exit_code = failed_start(s->runtime_dir, -error);
	if (s->exit_code) {
		config_free(config);
		return s->exit_code;
	}
	title_set("master");
	/* The children of a keeper that died become ours, so that somebody reaps them. */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	watchers_start(s);
	start_first(s, config, bytes);
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

/* A supervisor that owns nothing yet. */
static struct supervisor *supervisor_create(void)
{
	struct supervisor *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->broker_listener = s->keeper_listener = s->children_file = s->daemon_report = -1;
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
	if (config && daemon && (code = daemon_detach(&s->daemon_report)) != 0) {
		code = failed_start("--daemon", -code);
		config_free(config);
		config = NULL;
	}
	if (config) {
		raise_descriptor_limit();
		code = supervisor_run(s, config, buffer_span(&bytes), daemon);
	}
	s->exit_code = code;
	buffer_release(&bytes);
	supervisor_close(s);
	return code;
}
