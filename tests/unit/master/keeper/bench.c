/* bench: see bench.h. */
#include "tests/unit/master/keeper/bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "common/ipc/wire.h"
#include "common/procfs.h"

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
	s->errors = err[1];
	pipes_watch(i);
}

static void open_keeper(struct bench *s)
{
	struct keeper *k = calloc(1, sizeof(*k));

	must(k);
	s->keeper = k;
	k->boot = &s->boot;
	k->log = s->boot.log;
	k->loop = ev_loop_new(EVFLAG_AUTO);
	k->metrics = metrics_slot_open(s->boot.metrics,
	    metrics_slot_take(s->boot.metrics, METRIC_SLOT_KEEPER, 0, 0), (int32_t)getpid());
	TAILQ_INIT(&k->fleets);
	TAILQ_INIT(&k->dirty);
	TAILQ_INIT(&k->dead);
	TAILQ_INIT(&k->intake);
	TAILQ_INIT(&k->remnants);
	LIST_INIT(&k->dead_peers);
	k->last_number = (uint64_t)++s->boot.epoch << 32;
	struct definitions *d = calloc(1, sizeof(*d));
	must(d && k->loop);
	d->config = &s->config;
	must(fleets_configure(k, d) == 0);
	must((s->fleet = fleet_find(k, SPAN("main"))));
}

void bench_open(struct bench *s, enum config_sharing sharing)
{
	static const struct log_options nowhere = {
	    .level = LOG_LEVEL_ERROR, .format = LOG_FORMAT_JSON, .file = "/dev/null"};
	int channel[2], worker[2];
	struct metrics *metrics = NULL;

	memset(s, 0, sizeof(*s));
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, channel) == 0 &&
	     socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, worker) == 0 &&
	     metrics_create(&metrics) == 0 && log_open(&nowhere, "keeper", &s->boot.log) == 0);
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
	open_keeper(s);
	must((s->child = instance_create(s->fleet)));
	s->child->state = INSTANCE_READY;
	s->child->bound = sharing == CONFIG_SHARED;
	open_pipes(s);
	peer_open(s->keeper, worker[1]);
	must((s->peer = s->keeper->peers[0]));
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

static void close_keeper(struct bench *s)
{
	struct keeper *k = s->keeper;
	struct instance *i, *next;

	k->stopping = true;
	HASH_ITER (hh, k->by_id, i, next) {
		pipes_close(i); /* nobody is to hear of this */
		i->pid = 0;
		instance_stop(i, "the test is over");
	}
	if (k->peers[0])
		peer_close(k->peers[0], "the test is over");
	free_dead(k);
	fleets_close(k);
	ev_loop_destroy(k->loop);
	free(k->forgets);
	free(k->rows);
	free(k);
}

/* As the master does it. */
static void hold(struct bench *s)
{
	char payload[FRAME_PAYLOAD_MAX];
	struct frame frame;
	int fds[FRAME_FDS_MAX];
	unsigned count;

	while (frame_receive_fds(s->channel, &frame, payload, fds, &count) == 1) {
		must(frame.type == CHANNEL_KEEP || frame.type == CHANNEL_LEAVE);
		must(vault_put(frame.type == CHANNEL_KEEP ? &s->vault : &s->left, frame.target, fds,
			 count) == 0);
	}
}

void bench_turn(struct bench *s)
{
	struct keeper *k = s->keeper;
	struct instance *i;

	ev_run(k->loop, EVRUN_NOWAIT);
	while ((i = TAILQ_FIRST(&k->dirty))) {
		TAILQ_REMOVE(&k->dirty, i, dirty);
		i->is_dirty = false;
		instance_flush(i);
	}
}

void bench_replace(struct bench *s)
{
	struct handover_reader left;
	struct procfs_stat self;
	int status;

	/* Something that lives: the test itself. */
	must(procfs_stat(getpid(), &self) == 0);
	if (s->child_ended) {
		self.pid = fork();
		if (self.pid == 0)
			_exit(0);
		must(waitpid(self.pid, NULL, 0) == self.pid);
	}
	s->child->pid = s->child->page->pid = self.pid;
	s->child->page->start_time = self.start_time;
	instance_keep(s->child);
	pid_t pid = fork();
	if (pid == 0) {
		keeper_leave(s->keeper);
		_exit(EXIT_FAILURE);
	}
	must(waitpid(pid, &status, 0) == pid && status == 0);
	hold(s);
	uint64_t id = s->child->id;
	close_keeper(s);
	while (recv(s->channel, &status, sizeof(status), MSG_DONTWAIT) > 0) {
		/* what its end in this process had to say */
	}
	open_keeper(s);
	must(handover_open(&left, &s->left));
	for (size_t i = 0; i < s->vault.count; i++)
		must(instance_adopt(s->keeper, &s->vault.rows[i], true));
	keeper_inherit(s->keeper, &left);
	handover_close(&left);
	free(s->vault.rows);
	s->vault = (struct vault){0};
	HASH_FIND(hh, s->keeper->by_id, &id, sizeof(id), s->child);
	must((s->child || s->child_ended) && (s->peer = s->keeper->peers[0]));
}

void bench_close(struct bench *s)
{
	close_keeper(s);
	close(s->channel);
	close(s->boot.channel);
	close(s->worker);
	close(s->input);
	close(s->output);
	close(s->errors);
	buffer_release(&s->received);
	metrics_close(s->boot.metrics);
	log_close(s->boot.log);
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
	intake_take(s->peer, &frame, buffer_span(&payload), 0);
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
	intake_take(s->peer, &frame, buffer_span(&payload), 0);
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

void bench_write(struct bench *s, struct span bytes)
{
	for (int turns = 0; bytes.n > 0; turns++) {
		ssize_t n = write(s->output, bytes.p, bytes.n);
		n = n > 0 ? n : 0;
		bytes = (struct span){bytes.p + n, bytes.n - (size_t)n};
		bench_turn(s);
		must(turns < 10000);
	}
}

unsigned bench_wait(struct bench *s)
{
	unsigned turns = 0;

	while (s->child->scanning || !TAILQ_EMPTY(&s->keeper->intake)) {
		bench_turn(s);
		must(++turns < 10000);
	}
	return turns;
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
