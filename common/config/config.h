/*
 * config: what an operator may say, parsed and checked.
 *
 * One table (schema.c) names every key, its type, default, bounds and explanation; the parser,
 * `margay check`, docs/configuration.md and the annotated etc/margay.yaml follow it. A config is
 * immutable once parsed and belongs to one generation. Durations are seconds (double), sizes bytes.
 */
#ifndef MARGAY_COMMON_CONFIG_CONFIG_H
#define MARGAY_COMMON_CONFIG_CONFIG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "common/log.h"

enum {
	CONFIG_WORKERS_MAX = 32,
	CONFIG_ROUTES_MAX = 256,
	CONFIG_UPSTREAMS_MAX = 256,
	CONFIG_LISTENS_MAX = 16,
	CONFIG_PLACE_MAX = 32,
	CONFIG_SEALED_MAX = 16 * 1024 * 1024,
	CONFIG_SHA256_TEXT = 65
};

struct config_address {
	char *text; /* as the operator wrote it: "127.0.0.1:8080", "[::1]:8080", "*:8080" */
	struct sockaddr_storage storage;
	socklen_t length;
	unsigned line;              /* in the file; 0: not from there */
	char key[CONFIG_PLACE_MAX]; /* "listen[0].address" */
};

/* What a listener needs to speak TLS: PEM. */
struct config_tls {
	bool on;
	char *certificate; /* the server's own, then those that signed it */
	char *key;
};

struct config_listen {
	struct config_address address;
	struct config_tls tls;
	char **hosts; /* Host values served beside the address itself; empty on loopback means
			 localhost names */
	size_t host_count;
	char **origins; /* Origin values accepted, scheme://host[:port]; loopback origins when bound
			   to loopback */
	size_t origin_count;
};

/* Names of variables that hold the header fields of a bridge begin so. */
#define CONFIG_BRIDGE_HEADER "MARGAY_HEADER_"

enum config_kind { CONFIG_HTTP, CONFIG_STDIO };
enum config_sharing { CONFIG_PER_SESSION, CONFIG_SHARED, CONFIG_POOL };

struct config_variable {
	char *name;
	char *value; /* as written: references (reference.h) are resolved when a child is started */
};

/* An MCP server that Margay starts itself: a program on stdin and stdout. */
struct config_stdio {
	char *url;     /* of a server of HTTP+SSE that the command bridges to; NULL: a program */
	char *command; /* absolute */
	char **args;   /* behind the command; as written, with references */
	size_t arg_count;
	struct config_variable *env;
	size_t env_count;
	char **inherit; /* names let through beside the usual ones */
	size_t inherit_count;
	char *cwd; /* NULL: / */
	enum config_sharing sharing;
	unsigned pool_min, pool_max; /* of CONFIG_POOL */
	unsigned children;           /* most at a time */
	size_t memory;               /* bytes; 0: no limit. So are the next */
	double cpu;                  /* seconds of CPU time */
	unsigned files;
	unsigned processes;
	size_t line;              /* bytes of the longest message */
	bool restartable;         /* a session may go on with a new child */
	unsigned failures;        /* in a row before the breaker opens */
	double delay_max;         /* longest wait between two tries */
	double handshake_timeout; /* from a start to its answer to initialize */
	double idle_timeout;      /* unused children end; 0: never */
};

struct config_upstream {
	char *name;
	enum config_kind kind;
	struct config_stdio stdio; /* of CONFIG_STDIO; the next are of CONFIG_HTTP */
	char *headers; /* more header lines for each request, each ended by CRLF, or NULL */
	char *url;     /* http://host[:port]/path?query as written */
	char *host;    /* without brackets, lower case */
	uint16_t port;
	char *target;    /* origin-form request target: "/mcp" */
	char *authority; /* value of the Host field */
	unsigned line;   /* where it stands in the file */
};

struct config_route {
	char *path;      /* exact request path */
	size_t upstream; /* index into upstreams */
	bool http_sse;   /* serve clients of HTTP+SSE, too */
};

struct config_limits {
	size_t header_size; /* bytes of a head, requests and responses */
	unsigned header_count;
	size_t body_size; /* bytes of a request body */
	unsigned json_depth;
	unsigned connections;            /* client connections per worker */
	unsigned connections_per_client; /* per client address and worker */
	unsigned requests_per_connection;
	unsigned streams_per_session;  /* open SSE streams of one session in one worker */
	unsigned upstream_connections; /* to one upstream, per worker */
	unsigned parked_calls;         /* waiting for what their clients were asked, per worker */
	unsigned upstream_idle;        /* pooled idle connections to one upstream, per worker */
};

struct config_timeouts {
	double client_header; /* absolute, from the first byte */
	double client_body;
	double client_idle;  /* keep-alive */
	double client_write; /* no progress towards the client */
	double upstream_connect;
	double upstream_retry; /* how long connecting is tried again; 0: not */
	double upstream_first_byte;
	double upstream_between_bytes;
	double upstream_total;
	double upstream_idle;    /* pooled connections */
	double sse_heartbeat;    /* comment on a quiet SSE stream */
	double client_input;     /* of a call, for the answers of a client that was asked */
	double keepalive_linger; /* of idle connections, draining */
	double drain_spread;     /* over which event streams end, draining */
	double drain_timeout;    /* for a generation that another took over from */
	double shutdown;         /* for a graceful stop */
};

struct config_sessions {
	double idle_timeout;
	unsigned max;
};

struct config_cache {
	size_t size; /* bytes in each worker; 0: off */
};

struct config_log {
	enum log_level level;
	enum log_format format;
	char *file;  /* path, "stderr" or "syslog" */
	bool access; /* one line per request */
};

/* One thing that is wrong, said so that the operator can mend it. */
struct config_error {
	unsigned line; /* 1-based; 0 when the file as a whole is meant */
	char *key;     /* dotted path: "timeouts.client_header" */
	char *problem; /* what is wrong */
	char *remedy;  /* what would be right */
};

struct config_errors {
	struct config_error *rows;
	size_t count;
};

struct config {
	char *runtime_dir;
	char *user;            /* NULL: stay who we are */
	double orphan_timeout; /* seconds that children outlive the master */
	unsigned workers;      /* resolved: never 0 */
	bool connected;        /* there are no listeners, see struct config_defaults */
	struct config_listen *listens;
	size_t listen_count;
	struct config_listen admin;
	bool has_admin;
	struct config_upstream *upstreams;
	size_t upstream_count;
	struct config_route *routes;
	size_t route_count;
	struct config_limits limits;
	struct config_timeouts timeouts;
	struct config_sessions sessions;
	struct config_cache cache;
	struct config_log log;
	struct buffer outside; /* what was read beside the file: see config_seal */
	struct config_errors
	    warnings; /* what an operator should know, and nothing is refused for */
};

/* What takes the place of keys that a file without them leaves out: how `margay run` serves with
 * less than a whole configuration. */
struct config_defaults {
	const char *runtime_dir;
	const char *listen; /* HOST:PORT */
	bool connected;     /* nobody can connect: the only client is there (desktop.h) */
	bool quiet;   /* log warnings only, as text, and no requests; wait for no other master */
	bool checked; /* these bytes are sealed: what is outside of them is not looked at */
	const char *running_dir; /* runtime_dir of a Margay that runs: another is an error */
};

/*
 * Parse a configuration. All errors are collected, not only the first. 0 with *out set (the
 * caller's, config_free), or -EINVAL with *errors filled, or -ENOMEM. `defaults` may be NULL. Looks
 * commands up and reads the files that references name; binds nothing, changes nothing.
 */
int config_parse(struct span bytes, const struct config_defaults *defaults, struct config **out,
    struct config_errors *errors) MUST_CHECK;
/* Digest of all that a child is started by: program, arguments, environment, directory, sharing and
 * limits of the system. A child with another digest is another child. */
void config_stdio_digest(const struct config_stdio *stdio, char out[CONFIG_SHA256_TEXT]);
/* Read a whole file, at most 4 MiB, into `out`. 0 or -errno. `again`: nothing but a regular file,
 * which never keeps its reader waiting; anything else is -ESPIPE. */
int config_read(const char *path, bool again, struct buffer *out) MUST_CHECK;
/* What a generation serves by: the bytes of the file and the texts of what they name, which may be
 * secret. Sealed bytes stay as they are. config_parse reads them again with `checked`. 0 or
 * -errno. */
int config_seal(const struct config *config, struct span bytes, struct buffer *out) MUST_CHECK;
/* SHA-256 of sealed bytes in hexadecimal: which configuration that is. */
void config_sha256(struct span bytes, char out[CONFIG_SHA256_TEXT]);
/* Only the runtime_dir of a configuration that may have errors elsewhere; NULL when there is none.
 * The caller's. */
char *config_runtime_dir(struct span bytes);
void config_free(struct config *config);
void config_errors_free(struct config_errors *errors);
/* Note one more; `problem` is a format. Control characters become `?`. 0 or -ENOMEM. */
int config_errors_add(struct config_errors *errors, unsigned line, const char *key,
    const char *remedy, const char *problem, ...) PRINTF_LIKE(5, 6) MUST_CHECK;
int config_errors_vadd(struct config_errors *errors, unsigned line, const char *key,
    const char *remedy, const char *problem, va_list args) MUST_CHECK;
/* "margay.yaml:12: timeouts.client_header: `10x` is no duration; write a number with ms, s, m, h or
 * d, as in 30s" per line. */
int config_errors_print(
    const struct config_errors *errors, const char *name, struct buffer *out) MUST_CHECK;
/* The table of all keys as Markdown: docs/configuration.md holds it, and a test compares. */
int config_document(struct buffer *out) MUST_CHECK;

#endif
