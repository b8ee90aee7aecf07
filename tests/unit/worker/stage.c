/* stage: see stage.h. */
#include "tests/unit/worker/stage.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/route.h"
#include "worker/upstream/upstream.h"

static const double patience = 5;

static int listen_anywhere(uint16_t *port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, 16), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

/* As a worker ends its turns. */
static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	(void)loop;
	(void)events;
	upstreams_send_posted(container_of(prepare, struct worker, prepare));
}

void stage_open(struct stage *s)
{
	static const struct log_options quiet = {.level = LOG_LEVEL_DEBUG, .file = "/dev/null"};
	struct worker *w = calloc(1, sizeof(*w));

	cr_assert_not_null(w);
	memset(s, 0, sizeof(*s));
	s->worker = w;
	s->listener = listen_anywhere(&s->port);
	s->upstream = (struct config_upstream){.name = "up",
	    .host = "127.0.0.1",
	    .port = s->port,
	    .target = "/mcp",
	    .authority = "up"};
	s->route = (struct config_route){.path = "/mcp"};
	s->config = (struct config){.upstreams = &s->upstream,
	    .upstream_count = 1,
	    .routes = &s->route,
	    .route_count = 1,
	    .limits = {.header_size = 4096,
		.header_count = 32,
		.upstream_connections = 16,
		.upstream_idle = 4},
	    .timeouts = {.upstream_connect = 2,
		.upstream_first_byte = 0.3,
		.upstream_between_bytes = 2,
		.upstream_total = 10,
		.upstream_idle = 10}};
	cr_assert_eq(metrics_create(&s->boot.metrics), 0);
	metrics_label(s->boot.metrics, &s->config);
	s->boot.metrics_slot = metrics_slot_take(s->boot.metrics, METRIC_SLOT_WORKER, 0, 1);
	cr_assert_geq(s->boot.metrics_slot, 0);
	cr_assert_eq(log_open(&quiet, "test", &s->boot.log), 0);
	s->boot.config = &s->config;
	w->boot = &s->boot;
	w->config = &s->config;
	w->log = s->boot.log;
	w->metrics = metrics_slot_open(s->boot.metrics, s->boot.metrics_slot, getpid());
	w->loop = ev_loop_new(EVFLAG_AUTO);
	ev_prepare_init(&w->prepare, on_prepare);
	ev_prepare_start(w->loop, &w->prepare);
	upstream_timeouts_init(w);
	cr_assert_eq(upstreams_open(w, &w->upstreams), 0);
	cr_assert_eq(routes_open(w), 0);
	cr_assert_eq(resolver_open(w->loop, w->log, &w->resolver), 0);
}

void stage_close(struct stage *s)
{
	struct worker *w = s->worker;

	upstreams_close(w);
	upstreams_free_closed(w);
	resolver_close(w->resolver);
	free(w->upstreams);
	free(w->routes);
	ev_loop_destroy(w->loop);
	free(w);
	log_close(s->boot.log);
	metrics_close(s->boot.metrics);
	if (s->listener >= 0)
		close(s->listener);
}

static void turn(struct stage *s, int fd, double started)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};

	cr_assert_lt(ev_time() - started, patience, "waited in vain");
	ev_run(s->worker->loop, EVRUN_NOWAIT);
	poll(&ready, fd >= 0, 1);
}

void stage_until(struct stage *s, const bool *flag)
{
	for (double started = ev_time(); !*flag;)
		turn(s, -1, started);
}

int stage_accept(struct stage *s)
{
	struct timeval limit = {.tv_sec = (time_t)patience};

	for (double started = ev_time();; turn(s, s->listener, started)) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		return fd;
	}
}

void stage_expect(struct stage *s, int fd, const char *text, char *out, size_t size)
{
	size_t length = 0;

	out[0] = '\0';
	for (double started = ev_time(); !strstr(out, text); turn(s, fd, started)) {
		ssize_t n = recv(fd, out + length, size - 1 - length, MSG_DONTWAIT);
		cr_assert(
		    n > 0 || (n < 0 && errno == EAGAIN), "the connection ended; got: %s", out);
		length += n > 0 ? (size_t)n : 0;
		out[length] = '\0';
	}
	ev_run(s->worker->loop, EVRUN_NOWAIT);
}

void stage_send(int fd, const char *text)
{
	size_t n = strlen(text);

	ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
	cr_assert_eq(sent, (ssize_t)n, "%s", strerror(errno));
}
