/*
 * bridge: the process behind an upstream of HTTP+SSE (2024-11-05): stdio towards the keeper, whose
 * child it is, HTTP+SSE towards one server.
 *
 * A session of that transport is a connection. In a process of its own it outlives workers and the
 * keeper, and is shared, counted and ended as any stdio child is. Messages pass as they are; each
 * is POSTed when the one before was accepted, so that their order stays. The bridge ends with its
 * stream or with its stdin.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/compose.h"
#include "common/config/reference.h"
#include "common/envelope.h"
#include "common/exit_code.h"
#include "common/title.h"
#include "common/turn.h"
#include "worker/bridge/endpoint.h"
#include "worker/console.h"
#include "worker/mcp/exchange.h"
#include "worker/mcp/translate/translate.h"
#include "worker/upstream/upstream.h"

enum {
	MESSAGE_MAX = 64 * 1024 * 1024,
	WAITING_MAX = 1024 * 1024, /* bytes of messages that wait for their turn to be sent */
};

/* A server that is started again is waited for, for less than handshake_timeout is by default. */
static const double retry = 10;

struct outgoing {
	TAILQ_ENTRY(outgoing) link;
	size_t n;
	char p[];
};

struct bridge {
	struct worker *worker;
	struct role_boot boot;
	struct config *config;
	struct config_upstream post_config; /* the stream's with another target */
	struct upstream post_upstream;
	struct buffer endpoint;
	struct upstream_call stream, post;
	struct sse_data events;
	struct sse_marks marks;
	struct console console;
	TAILQ_HEAD(, outgoing) waiting;
	size_t waiting_bytes;
	struct outgoing *sent;
	unsigned status;
	bool ending; /* when all that was said is written */
	int exit_code;
	ev_prepare prepare;
};

static void send_next(struct bridge *b);

/* --- the end --- */

static void check_end(struct bridge *b)
{
	bool idle = !b->sent && TAILQ_EMPTY(&b->waiting);

	if (console_is_quiet(&b->console) && (b->ending || (b->console.ended && idle)))
		ev_break(b->worker->loop, EVBREAK_ALL);
}

static void fail(struct bridge *b, const char *why)
{
	if (b->ending)
		return;
	b->ending = true;
	b->exit_code = EXIT_FAILED;
	console_read(&b->console, false);
	fprintf(stderr, "margay bridge: %s: %s\n", b->config->upstreams[0].url, why);
	check_end(b);
}

/* --- towards the keeper --- */

static void say(struct bridge *b, struct span message)
{
	if (console_say(&b->console, message))
		fail(b, "a message is too long, or memory too short");
}

static void answer_error(struct bridge *b, struct span id, int code, const char *why)
{
	struct buffer text = {0};
	struct compose c = {.out = &text, .bound = id.n + 1024};

	translate_error(&c, id, code, span_of(why), (struct span){0});
	if (!c.error)
		say(b, buffer_span(&text));
	buffer_release(&text);
}

/* --- the stream --- */

static void take_endpoint(struct bridge *b, struct span data)
{
	char text[160];

	buffer_consume(&b->endpoint, buffer_length(&b->endpoint));
	const char *wrong = endpoint_resolve(&b->config->upstreams[0], data, &b->endpoint);
	if (wrong) {
		snprintf(text, sizeof(text), "its endpoint can't be used: %s", wrong);
		fail(b, text);
		return;
	}
	b->post_config.target = b->endpoint.data + b->endpoint.head;
	send_next(b);
}

static int on_event(struct sse_data *events, struct span data)
{
	struct bridge *b = container_of(events, struct bridge, events);

	if (strcmp(b->marks.event, "endpoint") == 0)
		take_endpoint(b, data);
	else if (data.n > 0 && (!b->marks.event[0] || strcmp(b->marks.event, "message") == 0))
		say(b, data);
	return b->ending;
}

static void on_stream_head(struct upstream_call *call, const struct http_head *head)
{
	struct bridge *b = container_of(call, struct bridge, stream);
	const struct http_header *type = head_find(head, HTTP_CONTENT_TYPE);
	char text[96];

	if (head->status == 200 && type && header_has_token(type->value, SPAN("text/event-stream")))
		return;
	snprintf(text, sizeof(text), "it answered GET with status %u%s", head->status,
	    head->status == 200 ? " and no event stream" : "");
	fail(b, text);
}

static void on_stream_body(struct upstream_call *call, const char *p, size_t n)
{
	struct bridge *b = container_of(call, struct bridge, stream);

	if (!b->ending && sse_data_feed(&b->events, p, n, MESSAGE_MAX, on_event) < 0)
		fail(b, "a message of its is too long");
}

static void on_stream_read_end(struct upstream_call *call)
{
	struct bridge *b = container_of(call, struct bridge, stream);

	if (b->console.congested)
		upstream_call_pause(call);
}

static void on_stream_end(struct upstream_call *call, int reason, const char *detail)
{
	struct bridge *b = container_of(call, struct bridge, stream);

	fail(b, reason == UPSTREAM_OK ? "it ended its stream" : detail);
}

static const struct upstream_call_ops stream_ops = {
    on_stream_head, on_stream_body, on_stream_read_end, on_stream_end};

static int open_stream(struct bridge *b)
{
	struct upstream *u = &b->worker->upstreams[0];

	b->stream = (struct upstream_call){
	    .upstream = u, .ops = &stream_ops, .repeatable = true, .stream = true};
	int error = relay_build_head(
	    &b->stream.head, "GET", u, NULL, (struct span){0}, (struct span){0}, NULL);
	if (!error)
		upstream_call_start(&b->stream);
	return error;
}

/* --- messages to the server --- */

static void on_post_head(struct upstream_call *call, const struct http_head *head)
{
	container_of(call, struct bridge, post)->status = head->status;
}

static void on_post_body(struct upstream_call *call, const char *p, size_t n)
{
	(void)call;
	(void)p;
	(void)n;
}

static void on_post_read_end(struct upstream_call *call)
{
	(void)call;
}

/* A request that did not get there has no other answer. */
static void refuse(struct bridge *b, const struct outgoing *o, const char *detail)
{
	struct envelope *e = &b->worker->envelope;
	struct envelope_fault fault;
	char text[256];

	if (detail[0])
		snprintf(text, sizeof(text), "The server could not be told: %s", detail);
	else
		snprintf(text, sizeof(text), "The server answered with status %u", b->status);
	if (!envelope_scan((struct span){o->p, o->n}, b->config->limits.json_depth, e, &fault) &&
	    e->kind == ENVELOPE_REQUEST)
		answer_error(b, e->id, -32603, text);
	else
		fprintf(stderr, "margay bridge: a message is lost: %s\n", text);
}

static void on_post_end(struct upstream_call *call, int reason, const char *detail)
{
	struct bridge *b = container_of(call, struct bridge, post);
	struct outgoing *o = b->sent;

	b->sent = NULL;
	if (reason != UPSTREAM_OK || b->status < 200 || b->status >= 300)
		refuse(b, o, reason == UPSTREAM_OK ? "" : detail);
	free(o);
	send_next(b);
	check_end(b);
}

static const struct upstream_call_ops post_ops = {
    on_post_head, on_post_body, on_post_read_end, on_post_end};

static void send_next(struct bridge *b)
{
	struct outgoing *o = TAILQ_FIRST(&b->waiting);
	struct buffer head = b->post.head;

	console_read(&b->console, !b->ending && b->waiting_bytes < WAITING_MAX);
	if (b->sent || !o || !b->post_config.target)
		return;
	TAILQ_REMOVE(&b->waiting, o, link);
	b->waiting_bytes -= o->n;
	b->sent = o;
	b->status = 0;
	struct span body = {o->p, o->n};
	buffer_consume(&head, buffer_length(&head));
	int error = relay_build_head(
	    &head, "POST", &b->post_upstream, NULL, (struct span){0}, (struct span){0}, &body);
	b->post = (struct upstream_call){
	    .upstream = &b->post_upstream, .ops = &post_ops, .head = head, .body = body};
	if (error)
		on_post_end(&b->post, METRIC_REASON_LIMIT, "out of memory");
	else
		upstream_call_start(&b->post);
}

/* --- from the keeper --- */

/* True when it is the question for our era, which needs no answer of the server's. */
static bool answers_itself(struct bridge *b, struct span line)
{
	struct envelope *e = &b->worker->envelope;
	struct envelope_fault fault;

	if (envelope_scan(line, b->config->limits.json_depth, e, &fault) ||
	    e->kind != ENVELOPE_REQUEST || !span_equal(e->method, SPAN("server/discover")))
		return false;
	answer_error(b, e->id, -32601, "HTTP+SSE is of the era before");
	return true;
}

static void on_line(struct console *c, struct span line)
{
	struct bridge *b = container_of(c, struct bridge, console);

	if (b->ending || answers_itself(b, line))
		return;
	struct outgoing *o = malloc(sizeof(*o) + line.n);
	if (!o) {
		fail(b, "out of memory");
		return;
	}
	o->n = line.n;
	memcpy(o->p, line.p, line.n);
	TAILQ_INSERT_TAIL(&b->waiting, o, link);
	b->waiting_bytes += o->n;
	send_next(b);
}

static void on_too_long(struct console *c)
{
	fail(container_of(c, struct bridge, console), "a message to it is too long");
}

static void on_ended(struct console *c)
{
	check_end(container_of(c, struct bridge, console));
}

static void on_drained(struct console *c)
{
	struct bridge *b = container_of(c, struct bridge, console);

	upstream_call_resume(&b->stream);
	check_end(b);
}

static void on_lost(struct console *c)
{
	ev_break(c->loop, EVBREAK_ALL);
}

static const struct console_ops console_ops = {on_line, on_too_long, on_ended, on_drained, on_lost};

/* --- life --- */

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	struct worker *w = container_of(prepare, struct bridge, prepare)->worker;

	turn_enter("end of turn");
	(void)loop;
	(void)events;
	upstreams_send_posted(w);
	upstreams_free_closed(w);
}

/* Header fields from the environment. */
static void add_headers(cJSON *http)
{
	cJSON *headers = cJSON_AddObjectToObject(http, "headers");
	char name[64];

	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), "%s%u", CONFIG_BRIDGE_HEADER, i);
		const char *field = getenv(name), *colon = field ? strchr(field, ':') : NULL;
		if (!colon)
			return;
		size_t n = (size_t)(colon - field);
		snprintf(name, sizeof(name), "%.*s", n < sizeof(name) ? (int)n : 0, field);
		struct buffer value = {0};
		/* Its references are resolved by now. */
		if (!reference_escape(colon + 1 + strspn(colon + 1, " "), &value))
			cJSON_AddStringToObject(headers, name, buffer_span(&value).p);
		buffer_release(&value);
	}
}

/* A configuration with the one upstream. NULL when an error was said. */
static struct config *make_config(const char *url)
{
	static const struct config_defaults defaults = {
	    .runtime_dir = "/", .connected = true, .quiet = true};
	cJSON *root = cJSON_CreateObject();
	cJSON *upstreams = cJSON_AddObjectToObject(root, "upstreams");
	cJSON *http = cJSON_AddObjectToObject(cJSON_AddObjectToObject(upstreams, "server"), "http");
	cJSON *routes = cJSON_AddObjectToObject(root, "routes");
	struct config_errors errors;
	struct buffer said = {0};
	struct config *config = NULL;

	cJSON_AddStringToObject(http, "url", url);
	add_headers(http);
	cJSON_AddStringToObject(cJSON_AddObjectToObject(routes, "/"), "upstream", "server");
	char *text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (text && config_parse(span_of(text), &defaults, &config, &errors)) {
		config = NULL;
		if (config_errors_print(&errors, "(command line)", &said) == 0)
			fprintf(stderr, "%.*s", (int)buffer_length(&said), buffer_span(&said).p);
		config_errors_free(&errors);
		buffer_release(&said);
	}
	free(text);
	if (config)
		config->timeouts.upstream_retry = retry;
	return config;
}

/* What the upstream pool needs of a worker, and no more. 0 or -errno. */
static int worker_make(struct bridge *b)
{
	static const struct log_options quiet = {
	    .level = LOG_LEVEL_ERROR, .format = LOG_FORMAT_TEXT, .file = "stderr"};
	struct worker *w = b->worker = calloc(1, sizeof(*w));
	int error;

	if (!w)
		return -ENOMEM;
	if ((error = metrics_create(&b->boot.metrics)) ||
	    (error = log_open(&quiet, "bridge", &b->boot.log)))
		return error;
	metrics_label(b->boot.metrics, b->config);
	b->boot.metrics_slot = metrics_slot_take(b->boot.metrics, METRIC_SLOT_WORKER, 0, 1);
	b->boot.config = b->config;
	w->boot = &b->boot;
	w->config = b->config;
	w->log = b->boot.log;
	w->metrics = metrics_slot_open(b->boot.metrics, b->boot.metrics_slot, getpid());
	w->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (!w->loop)
		return -ENOMEM;
	upstream_timeouts_init(w);
	if ((error = upstreams_open(w, &w->upstreams)) ||
	    (error = resolver_open(w->loop, w->log, &w->resolver)))
		return error;
	b->post_config = b->config->upstreams[0];
	b->post_config.target = NULL;
	b->post_upstream = w->upstreams[0];
	b->post_upstream.config = &b->post_config;
	TAILQ_INIT(&b->post_upstream.idle);
	TAILQ_INIT(&b->post_upstream.waiting);
	return 0;
}

static int serve(struct bridge *b)
{
	struct ev_loop *loop = b->worker->loop;

	TAILQ_INIT(&b->waiting);
	b->events.marks = &b->marks;
	ev_prepare_init(&b->prepare, on_prepare);
	ev_prepare_start(loop, &b->prepare);
	int error = console_open(&b->console, loop, MESSAGE_MAX, &console_ops);
	if (!error)
		error = open_stream(b);
	if (!error && !b->ending)
		ev_run(loop, 0);
	return error;
}

int bridge_main(int argc, char **argv)
{
	static struct bridge b;

	if (argc != 2) {
		fprintf(stderr, "margay: say where to: margay bridge http://HOST:PORT/PATH\n");
		return EXIT_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	b.config = make_config(argv[1]);
	if (!b.config)
		return EXIT_CONFIG;
	title_set("bridge");
	int error = worker_make(&b);
	if (!error)
		error = serve(&b);
	if (error) {
		fprintf(stderr, "margay bridge: %s\n", strerror(-error));
		return EXIT_FAILED;
	}
	/* The kernel takes the rest back: no session of ours is left to be ended. */
	return b.exit_code;
}
