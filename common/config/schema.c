/* schema: see schema.h. */
#include "common/config/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/units.h"

#define AT(member)    offsetof(struct config, member)
#define STDIO(member) offsetof(struct config_stdio, member)

/* clang-format off */
const struct setting settings[] = {
{"runtime_dir", SETTING_PATH, AT(runtime_dir), "/run/margay", NULL, NULL,
	"Directory of the control socket, the broker's socket and the pid file. Made when missing. One running Margay each."},
{"user", SETTING_TEXT, AT(user), NULL, NULL, NULL,
	"User that workers and broker become when Margay is started as root."},
{"orphan_timeout", SETTING_DURATION, AT(orphan_timeout), "1m", "0", "1h",
	"How long all other processes serve on when the master was killed, waiting for a new one with this runtime_dir."},
{"workers", SETTING_WORKERS, AT(workers), "auto", "1", "32",
	"Worker processes; `auto` is one per CPU."},
{"listen", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"List of the addresses that clients connect to."},
{"listen[].address", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"HOST:PORT; the host is an IPv4 address, an IPv6 address in brackets, `localhost`, or `*`."},
{"listen[].hosts", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Values of Host that are served. Default: localhost names on a loopback address, any host elsewhere. `*` is any."},
{"listen[].origins", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Values of Origin that browsers may come from. Default: loopback origins on a loopback address, none elsewhere. `*` is any."},
{"listen[].tls.certificate", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"File of the certificate chain, PEM: the server's own first. With `tls` clients connect by https, TLS 1.2 or 1.3. Read at start and at each reload, as is the key."},
{"listen[].tls.key", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"File of the certificate's private key, PEM, without a passphrase. The user of the master reads it; workers need not be able to."},
{"admin.address", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"HOST:PORT of /metrics, /healthz and /readyz. Without `admin` there is no such listener."},
{"admin.hosts", SETTING_STRUCTURE, 0, NULL, NULL, NULL, "As `listen[].hosts`."},
{"admin.origins", SETTING_STRUCTURE, 0, NULL, NULL, NULL, "As `listen[].origins`."},
{"admin.tls", SETTING_STRUCTURE, 0, NULL, NULL, NULL, "As `listen[].tls`."},
{"upstreams", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"The MCP servers behind Margay, by name: up to 64 of a-z, A-Z, 0-9, `.`, `_`, `-`; not `other`."},
{"upstreams.NAME.http.url", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"http://HOST[:PORT]/PATH of a server that speaks Streamable HTTP."},
{"upstreams.NAME.http.headers", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Mapping of header fields sent with each request, as Authorization. Values may hold references."},
{"upstreams.NAME.stdio.command", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Program that speaks MCP on stdin and stdout: a path, or a name that is looked up in PATH when the file is read."},
{"upstreams.NAME.stdio.args", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"List of its arguments. References are resolved when it is started."},
{"upstreams.NAME.stdio.env", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Mapping of its environment. `${env:NAME}` stands for a variable of Margay's, `${file:PATH}` for a file's text without the newline at its end, `$${` for `${`."},
{"upstreams.NAME.stdio.inherit", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"List of variables passed on from Margay's environment, beside HOME, LANG, LC_ALL, LOGNAME, PATH, SHELL, TERM, TMPDIR, TZ and USER. `*` is all of them."},
{"upstreams.NAME.stdio.cwd", SETTING_PATH, STDIO(cwd), NULL, NULL, NULL,
	"Its working directory. Default: /."},
{"upstreams.NAME.stdio.sharing", SETTING_STRUCTURE, 0, "per_session", NULL, NULL,
	"`per_session`: a child for each session. `shared`: one for all, for servers that keep no state of a session. `{pool: {min: 1, max: 10}}`: as per_session, with `min` children started ahead and at most `max`."},
{"upstreams.NAME.stdio.limits.children", SETTING_COUNT, STDIO(children), "100", "1", "4096",
	"Most children at a time; more sessions are refused with 503."},
{"upstreams.NAME.stdio.limits.memory", SETTING_SIZE, STDIO(memory), "0", "0", "1024GiB",
	"Memory that each process of a child may write to (RLIMIT_DATA). 0: no limit."},
{"upstreams.NAME.stdio.limits.cpu", SETTING_DURATION, STDIO(cpu), "0", "0", "365d",
	"CPU time of each process of a child (RLIMIT_CPU). 0: no limit."},
{"upstreams.NAME.stdio.limits.files", SETTING_COUNT, STDIO(files), "4096", "16", "1000000",
	"Files that each process of a child may have open (RLIMIT_NOFILE)."},
{"upstreams.NAME.stdio.limits.processes", SETTING_COUNT, STDIO(processes), "0", "0", "1000000",
	"Processes and threads of the user that children run as (RLIMIT_NPROC; it does not bind root). 0: no limit."},
{"upstreams.NAME.stdio.limits.line", SETTING_SIZE, STDIO(line), "4MiB", "4KiB", "64MiB",
	"Longest message of a child; longer lines are dropped. As many bytes wait for a child that does not read."},
{"upstreams.NAME.stdio.restart.restartable", SETTING_BOOL, STDIO(restartable), "false", NULL, NULL,
	"Whether a session goes on with a new child, initialized as the first was, when its own ended. Else it ends with 404."},
{"upstreams.NAME.stdio.restart.failures", SETTING_COUNT, STDIO(failures), "5", "1", "1000",
	"Failed starts in a row after which requests are refused until the next try."},
{"upstreams.NAME.stdio.restart.delay_max", SETTING_DURATION, STDIO(delay_max), "30s", "100ms", "1h",
	"Longest wait before the next try; it doubles from 100 ms."},
{"upstreams.NAME.stdio.handshake_timeout", SETTING_DURATION, STDIO(handshake_timeout), "30s", "100ms", "1h",
	"From the start of a child to its answer to `initialize`."},
{"upstreams.NAME.stdio.idle_timeout", SETTING_DURATION, STDIO(idle_timeout), "30m", "0", "30d",
	"A child without a request or an open stream for that long ends, and with it its session, unless it is restartable. 0: never."},
{"upstreams.NAME.sse.url", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"http://HOST[:PORT]/PATH of the stream of a server that speaks HTTP+SSE (2024-11-05). Each session has a child of Margay's that bridges to it."},
{"upstreams.NAME.sse.headers", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Mapping of header fields sent with each request, as Authorization. Values may hold references."},
{"upstreams.NAME.sse.sharing", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"This and `limits`, `restart`, `handshake_timeout` and `idle_timeout` are those of `stdio`."},
{"mcpServers", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"MCP servers as desktop clients list them, by name: `command`, `args`, `env`, `cwd`, or `url`, `headers`. Each is an upstream with the route /NAME/mcp; other keys of an entry are not read."},
{"routes", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Request paths, matched exactly, each with its upstream."},
{"routes.PATH.upstream", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"Name of the upstream that serves this path."},
{"routes.PATH.http_sse", SETTING_STRUCTURE, 0, NULL, NULL, NULL,
	"`true`: clients of HTTP+SSE (2024-11-05) are served here, too: a GET without a session opens their stream."},
{"limits.header_size", SETTING_SIZE, AT(limits.header_size), "16KiB", "1KiB", "1MiB",
	"Longest head of a request or of an upstream's answer; more is 431."},
{"limits.header_count", SETTING_COUNT, AT(limits.header_count), "100", "8", "128",
	"Most header lines in a head; more is 431."},
{"limits.body_size", SETTING_SIZE, AT(limits.body_size), "4MiB", "1KiB", "1GiB",
	"Longest request body; more is 413."},
{"limits.json_depth", SETTING_COUNT, AT(limits.json_depth), "64", "4", "256",
	"Deepest nesting of a message; more is refused."},
{"limits.connections", SETTING_COUNT, AT(limits.connections), "8192", "1", "1000000",
	"Client connections in each worker; more are answered 503 and closed."},
{"limits.connections_per_client", SETTING_COUNT, AT(limits.connections_per_client), "4096", "0", "1000000",
	"Connections of one client address in each worker. 0: no limit."},
{"limits.requests_per_connection", SETTING_COUNT, AT(limits.requests_per_connection), "0", "0", "1000000000",
	"Requests after which a client connection is closed. 0: no limit."},
{"limits.streams_per_session", SETTING_COUNT, AT(limits.streams_per_session), "8", "1", "1000",
	"GET streams that one session may have open in each worker."},
{"limits.upstream_connections", SETTING_COUNT, AT(limits.upstream_connections), "1024", "1", "65000",
	"Connections to one upstream from each worker; further requests wait for one."},
{"limits.parked_calls", SETTING_COUNT, AT(limits.parked_calls), "10000", "1", "1000000",
	"Calls in each worker that wait for the answers to what their servers asked clients."},
{"limits.upstream_idle", SETTING_COUNT, AT(limits.upstream_idle), "128", "0", "65000",
	"Idle connections to one upstream that each worker keeps. 0: none."},
{"timeouts.client_header", SETTING_DURATION, AT(timeouts.client_header), "10s", "100ms", "1h",
	"From the first byte of a request to the end of its head; and for a TLS handshake."},
{"timeouts.client_body", SETTING_DURATION, AT(timeouts.client_body), "30s", "100ms", "1h",
	"From the end of a request's head to the end of its body."},
{"timeouts.client_idle", SETTING_DURATION, AT(timeouts.client_idle), "75s", "100ms", "1d",
	"How long a client connection may wait for its next request."},
{"timeouts.client_write", SETTING_DURATION, AT(timeouts.client_write), "30s", "100ms", "1h",
	"How long a client may read nothing of an answer."},
{"timeouts.upstream_connect", SETTING_DURATION, AT(timeouts.upstream_connect), "5s", "10ms", "10m",
	"Look-up of the name, waiting for a free connection, and connecting."},
{"timeouts.upstream_retry", SETTING_DURATION, AT(timeouts.upstream_retry), "0", "0", "1h",
	"How long a request waits for an upstream that can not be connected to; 0 fails it at once."},
{"timeouts.upstream_first_byte", SETTING_DURATION, AT(timeouts.upstream_first_byte), "5m", "0", "1d",
	"From a request sent to the first byte of its answer. 0: no limit."},
{"timeouts.upstream_between_bytes", SETTING_DURATION, AT(timeouts.upstream_between_bytes), "5m", "0", "1d",
	"Longest silence within an answer; GET streams may be silent. 0: no limit."},
{"timeouts.upstream_total", SETTING_DURATION, AT(timeouts.upstream_total), "1h", "0", "30d",
	"A whole request; GET streams live as long as they like. 0: no limit."},
{"timeouts.upstream_idle", SETTING_DURATION, AT(timeouts.upstream_idle), "60s", "100ms", "1d",
	"How long an idle connection to an upstream is kept."},
{"timeouts.sse_heartbeat", SETTING_DURATION, AT(timeouts.sse_heartbeat), "15s", "0", "1h",
	"Silence on an event stream after which a comment is sent, to keep proxies from closing it. 0: never."},
{"timeouts.client_input", SETTING_DURATION, AT(timeouts.client_input), "10m", "1s", "1d",
	"How long a call waits for the answers to what its server asked the client."},
{"timeouts.keepalive_linger", SETTING_DURATION, AT(timeouts.keepalive_linger), "5s", "100ms", "1h",
	"After a reload: how long an idle connection to an old worker stays open for one more request."},
{"timeouts.drain_spread", SETTING_DURATION, AT(timeouts.drain_spread), "30s", "0", "1h",
	"After a reload: event streams of old workers end one by one within this time, so that clients do not come back all at once."},
{"timeouts.drain_timeout", SETTING_DURATION, AT(timeouts.drain_timeout), "5m", "100ms", "1d",
	"After a reload: how long old workers may finish what they have before they are cut off."},
{"timeouts.shutdown", SETTING_DURATION, AT(timeouts.shutdown), "30s", "100ms", "1d",
	"How long a graceful stop may take before workers are cut off."},
{"sessions.idle_timeout", SETTING_DURATION, AT(sessions.idle_timeout), "30m", "1s", "30d",
	"A session unused for that long ends, also at its upstream."},
{"sessions.max", SETTING_COUNT, AT(sessions.max), "100000", "1", "10000000",
	"Most sessions at a time; more are refused with 503."},
{"cache.size", SETTING_SIZE, AT(cache.size), "16MiB", "0", "1GiB",
	"Memory of each worker for results that an upstream of 2026-07-28 allows everybody to keep. 0: none are kept."},
{"log.level", SETTING_LOG_LEVEL, AT(log.level), "info", NULL, NULL,
	"`error`, `warn`, `info` or `debug`."},
{"log.format", SETTING_LOG_FORMAT, AT(log.format), "json", NULL, NULL,
	"`json` or `text`."},
{"log.file", SETTING_LOG_FILE, AT(log.file), "stderr", NULL, NULL,
	"A path, `stderr`, or `syslog`. SIGUSR1 opens a file again."},
{"log.access", SETTING_BOOL, AT(log.access), "true", NULL, NULL,
	"Whether each request is logged."},
};
/* clang-format on */

const size_t setting_count = sizeof(settings) / sizeof(settings[0]);

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const format_names[] = {"text", "json"};

const char *setting_type_name(enum setting_type type)
{
	static const char *const names[] = {
	    [SETTING_STRUCTURE] = "structure",
	    [SETTING_TEXT] = "text",
	    [SETTING_DURATION] = "duration",
	    [SETTING_SIZE] = "size",
	    [SETTING_COUNT] = "number",
	    [SETTING_BOOL] = "true or false",
	    [SETTING_WORKERS] = "number or auto",
	    [SETTING_LOG_LEVEL] = "log level",
	    [SETTING_LOG_FORMAT] = "log format",
	    [SETTING_PATH] = "absolute path",
	    [SETTING_LOG_FILE] = "absolute path, stderr or syslog",
	};

	return names[type];
}

const char *setting_remedy(const struct setting *setting)
{
	static const char *const remedies[] = {
	    [SETTING_STRUCTURE] = "see docs/configuration.md",
	    [SETTING_TEXT] = "write a text that is not empty",
	    [SETTING_DURATION] = UNITS_DURATION_REMEDY,
	    [SETTING_SIZE] = UNITS_SIZE_REMEDY,
	    [SETTING_COUNT] = "write a whole number",
	    [SETTING_BOOL] = "write true or false",
	    [SETTING_WORKERS] = "write auto or a number from 1 to 32",
	    [SETTING_LOG_LEVEL] = "write error, warn, info or debug",
	    [SETTING_LOG_FORMAT] = "write json or text",
	    [SETTING_PATH] = "write a path that begins with /",
	    [SETTING_LOG_FILE] = "write a path that begins with /, stderr or syslog",
	};

	return remedies[setting->type];
}

static void *member(const struct setting *setting, void *into)
{
	return (char *)into + setting->offset;
}

static int parse_count(const char *text, unsigned *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno || value > 4000000000u)
		return -ERANGE;
	*out = (unsigned)value;
	return 0;
}

static int parse_choice(const char *text, const char *const *names, size_t count, unsigned *out)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, names[i]) == 0) {
			*out = (unsigned)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* A value of any type as a number, to be compared with its bounds. */
static int parse_number(const struct setting *setting, const char *text, double *out)
{
	unsigned count = 0;
	size_t size = 0;
	int error;

	if (setting->type == SETTING_DURATION)
		return duration_parse(text, out);
	if (setting->type == SETTING_SIZE) {
		error = size_parse(text, &size);
		*out = (double)size;
		return error;
	}
	error = parse_count(text, &count);
	*out = count;
	return error;
}

static int check_bounds(const struct setting *setting, double value)
{
	double low = 0, high = 0;

	if (setting->low && (parse_number(setting, setting->low, &low) || value < low))
		return -ERANGE;
	if (setting->high && (parse_number(setting, setting->high, &high) || value > high))
		return -ERANGE;
	return 0;
}

static int store_number(const struct setting *setting, const char *text, void *into)
{
	double value;
	int error = parse_number(setting, text, &value);

	if (!error)
		error = check_bounds(setting, value);
	if (error)
		return error;
	if (setting->type == SETTING_DURATION)
		*(double *)member(setting, into) = value;
	else if (setting->type == SETTING_SIZE)
		*(size_t *)member(setting, into) = (size_t)value;
	else
		*(unsigned *)member(setting, into) = (unsigned)value;
	return 0;
}

static int store_text(const struct setting *setting, const char *text, void *into)
{
	char **at = member(setting, into);

	if (!text[0])
		return -EINVAL;
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*at);
	*at = copy;
	return 0;
}

static unsigned cpu_count(void)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (online < 1)
		return 1;
	return online > CONFIG_WORKERS_MAX ? CONFIG_WORKERS_MAX : (unsigned)online;
}

int setting_store(const struct setting *setting, const char *text, void *into)
{
	unsigned choice = 0;
	int error;

	switch (setting->type) {
	case SETTING_STRUCTURE:
		return -EINVAL;
	case SETTING_TEXT:
		return store_text(setting, text, into);
	case SETTING_PATH:
		return text[0] == '/' ? store_text(setting, text, into) : -EINVAL;
	case SETTING_LOG_FILE:
		return text[0] == '/' || strcmp(text, "stderr") == 0 || strcmp(text, "syslog") == 0
			   ? store_text(setting, text, into)
			   : -EINVAL;
	case SETTING_WORKERS:
		if (strcmp(text, "auto") != 0)
			return store_number(setting, text, into);
		*(unsigned *)member(setting, into) = cpu_count();
		return 0;
	case SETTING_BOOL:
		*(bool *)member(setting, into) = strcmp(text, "true") == 0;
		return strcmp(text, "true") && strcmp(text, "false") ? -EINVAL : 0;
	case SETTING_LOG_LEVEL:
		error = parse_choice(text, level_names, 4, &choice);
		*(enum log_level *)member(setting, into) = (enum log_level)choice;
		return error;
	case SETTING_LOG_FORMAT:
		error = parse_choice(text, format_names, 2, &choice);
		*(enum log_format *)member(setting, into) = (enum log_format)choice;
		return error;
	default:
		return store_number(setting, text, into);
	}
}

int setting_defaults(const char *prefix, void *into)
{
	size_t n = strlen(prefix);

	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *row = &settings[i];
		bool stdio = strncmp(row->key, SETTING_STDIO, sizeof(SETTING_STDIO) - 1) == 0;
		if (!row->value || row->type == SETTING_STRUCTURE || stdio != (n > 0) ||
		    strncmp(row->key, prefix, n) != 0)
			continue;
		int error = setting_store(row, row->value, into);
		if (error)
			return error;
	}
	return 0;
}
