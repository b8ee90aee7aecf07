/* bench: see bench.h. */
#include "tests/unit/master/keeper/bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/wire.h"

static void must(bool good)
{
	if (!good)
		abort();
}

static void open_pipes(struct bench *s)
{
	struct instance *i = s->child;
	int in[2], out[2], err[2];

	must(pipe2(in, O_NONBLOCK) == 0 && pipe2(out, O_NONBLOCK) == 0 &&
	     pipe2(err, O_NONBLOCK) == 0);
	i->in = in[1];
	s->input = in[0];
	i->out = out[0];
	s->output = out[1];
	i->err = err[0];
	close(err[1]);
	pipes_watch(i);
}

void bench_open(struct bench *s, enum config_sharing sharing)
{
	static const struct log_options nowhere = {
	    .level = LOG_LEVEL_ERROR, .format = LOG_FORMAT_JSON, .file = "/dev/null"};
	int channel[2], worker[2];
	struct keeper *k = calloc(1, sizeof(*k));
	struct metrics *metrics = NULL;

	memset(s, 0, sizeof(*s));
	must(k && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, channel) == 0 &&
	     socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, worker) == 0 &&
	     metrics_create(&metrics) == 0 && log_open(&nowhere, "keeper", &s->boot.log) == 0);
	s->keeper = k;
	s->channel = channel[0];
	s->worker = worker[0];
	s->boot.channel = channel[1];
	s->boot.metrics = metrics;
	s->boot.children_file = -1;
	s->upstream = (struct config_upstream){.name = (char *)(uintptr_t) "main",
	    .kind = CONFIG_STDIO,
	    .stdio = {.sharing = sharing,
		.line = 65536,
		.children = 4,
		.failures = 3,
		.delay_max = 1,
		.handshake_timeout = 5}};
	s->config.upstreams = &s->upstream;
	s->config.upstream_count = 1;
	s->boot.config = &s->config;
	k->boot = &s->boot;
	k->log = s->boot.log;
	k->loop = ev_loop_new(EVFLAG_AUTO);
	k->metrics = metrics_slot_open(
	    metrics, metrics_slot_take(metrics, METRIC_SLOT_KEEPER, 0, 0), (int32_t)getpid());
	TAILQ_INIT(&k->fleets);
	TAILQ_INIT(&k->dirty);
	TAILQ_INIT(&k->dead);
	TAILQ_INIT(&k->remnants);
	LIST_INIT(&k->dead_peers);
	struct definitions *d = calloc(1, sizeof(*d));
	must(d && k->loop);
	d->config = &s->config;
	must(fleets_configure(k, d) == 0);
	must((s->fleet = fleet_find(k, SPAN("main"))) && (s->child = instance_create(s->fleet)));
	s->child->state = INSTANCE_READY;
	s->child->bound = sharing == CONFIG_SHARED;
	open_pipes(s);
	peer_open(k, worker[1]);
	must((s->peer = k->peers[0]));
	s->peer->greeted = true;
}

static void free_dead(struct keeper *k)
{
	struct instance *i;

	while ((i = TAILQ_FIRST(&k->dead))) {
		TAILQ_REMOVE(&k->dead, i, dead);
		instance_free(i);
	}
	peers_reap(k);
}

void bench_close(struct bench *s)
{
	struct keeper *k = s->keeper;
	struct instance *i, *next;

	k->stopping = true;
	HASH_ITER (hh, k->by_id, i, next)
		instance_stop(i, "the test is over");
	if (k->peers[0])
		peer_close(k->peers[0], "the test is over");
	free_dead(k);
	fleets_close(k);
	ev_loop_destroy(k->loop);
	close(s->channel);
	close(s->boot.channel);
	close(s->worker);
	close(s->input);
	close(s->output);
	buffer_release(&s->received);
	metrics_close(s->boot.metrics);
	log_close(s->boot.log);
	free(k->forgets);
	free(k->rows);
	free(k);
}

struct session_id bench_session(unsigned number)
{
	struct session_id id = {{0}};

	id.bytes[0] = (uint8_t)number;
	return id;
}

static void dispatch(
    struct bench *s, enum keeper_type type, unsigned session, uint32_t request, const char *message)
{
	struct session_id id = bench_session(session);
	struct buffer payload = {0};
	struct frame frame = {.type = (uint16_t)type, .request = request, .target = s->child->id};

	must(buffer_append(&payload, id.bytes, sizeof(id.bytes), BENCH_TEXT) == 0 &&
	     buffer_append(&payload, message, strlen(message), BENCH_TEXT) == 0);
	peer_dispatch(s->peer, &frame, buffer_span(&payload));
	buffer_release(&payload);
}

void bench_send(struct bench *s, unsigned session, uint32_t request, const char *message)
{
	dispatch(s, KEEPER_SEND, session, request, message);
}

void bench_ask(struct bench *s, uint32_t request, const char *message)
{
	char name[16];
	struct wire_writer w = {.p = name, .capacity = sizeof(name)};
	struct buffer payload = {0};
	struct frame frame = {.type = KEEPER_ASK, .request = request};

	wire_put_string(&w, SPAN("main"));
	must(buffer_append(&payload, name, w.length, BENCH_TEXT) == 0 &&
	     buffer_append(&payload, message, strlen(message), BENCH_TEXT) == 0);
	peer_dispatch(s->peer, &frame, buffer_span(&payload));
	buffer_release(&payload);
}

void bench_listen(struct bench *s, unsigned session, uint32_t request)
{
	dispatch(s, KEEPER_LISTEN, session, request, "");
}

void bench_say(struct bench *s, const char *line)
{
	deliver_line(s->child, span_of(line));
}

const char *bench_heard(struct bench *s)
{
	struct keeper *k = s->keeper;

	if (s->child->is_dirty) {
		TAILQ_REMOVE(&k->dirty, s->child, dirty);
		s->child->is_dirty = false;
	}
	instance_flush(s->child);
	ssize_t n = read(s->input, s->text, sizeof(s->text) - 1);
	s->text[n > 0 ? n : 0] = '\0';
	return s->text;
}

bool bench_told(struct bench *s, struct frame *frame)
{
	char block[65536];
	ssize_t n;

	do {
		stream_flush(&s->peer->stream);
		n = recv(s->worker, block, sizeof(block), MSG_DONTWAIT);
		if (n > 0)
			must(buffer_append(&s->received, block, (size_t)n, 16 << 20) == 0);
	} while (n > 0);
	struct span in = buffer_span(&s->received);
	if (in.n < sizeof(*frame))
		return false;
	memcpy(frame, in.p, sizeof(*frame));
	must(frame->magic == FRAME_MAGIC && in.n >= sizeof(*frame) + frame->length);
	size_t length = frame->length < BENCH_TEXT - 1 ? frame->length : BENCH_TEXT - 1;
	memcpy(s->text, in.p + sizeof(*frame), length);
	s->text[length] = '\0';
	buffer_consume(&s->received, sizeof(*frame) + frame->length);
	return true;
}

unsigned long long bench_number(const char *heard)
{
	const char *at = strstr(heard, "\"id\":");

	return at ? strtoull(at + 5, NULL, 10) : 0;
}
