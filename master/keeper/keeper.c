/*
 * keeper: see keeper.h. The loop: accepting workers, obeying the master, taking over what the
 * keeper before left.
 *
 * When the channel ends nobody will take the dead master's place (master/broker/holder.h): the
 * children serve until the workers have drained, and are ended.
 */
#include "master/keeper/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/ipc/channel.h"
#include "common/procfs.h"
#include "common/turn.h"
#include "master/keeper/estate.h"

enum { ACCEPT_BUDGET = 8, MEMORY_BUDGET = 16 };

static const double tick_every = 0.25, accept_pause = 0.1; /* seconds */
static const double drain_grace = 2;   /* beyond what the workers take to drain */
static const double peer_patience = 2; /* that a worker may leave its messages unread */

bool keeper_tell_master(
    struct keeper *k, uint16_t type, uint64_t key, const int *fds, unsigned count)
{
	struct frame frame = {.type = type, .target = key};

	return frame_send_fds(k->boot->channel, &frame, NULL, fds, count) == 0;
}

static void tell_forgets(struct keeper *k)
{
	while (k->forget_count > 0 &&
	       keeper_tell_master(k, CHANNEL_FORGET, k->forgets[k->forget_count - 1], NULL, 0))
		k->forget_count--;
}

void keeper_forget(struct keeper *k, uint64_t key)
{
	if (k->forget_count == k->forget_capacity) {
		size_t capacity = k->forget_capacity + 64;
		uint64_t *more = realloc(k->forgets, capacity * sizeof(*more));
		if (!more) {
			LOG_TEXT(k->log, LOG_LEVEL_ERROR,
			    "out of memory: the master holds on to a child that is gone");
			return;
		}
		k->forgets = more;
		k->forget_capacity = capacity;
	}
	k->forgets[k->forget_count++] = key;
	tell_forgets(k);
}

/* --- the end
 * ---------------------------------------------------------------------------------------- */

void keeper_check_stopped(struct keeper *k)
{
	/* Without a master nothing new will come. */
	if (k->orphaned && !k->by_id)
		k->stopping = true;
	if (k->stopping && !k->by_id && TAILQ_EMPTY(&k->remnants))
		ev_break(k->loop, EVBREAK_ALL);
}

void keeper_stop(struct keeper *k)
{
	struct instance *i, *next;

	if (k->stopping)
		return;
	k->stopping = true;
	HASH_ITER (hh, k->by_id, i, next)
		instance_stop(i, "Margay is stopping");
	keeper_check_stopped(k);
}

static bool has_peer(const struct keeper *k)
{
	unsigned n = 0;

	while (n < KEEPER_PEERS && !k->peers[n])
		n++;
	return n < KEEPER_PEERS;
}

static void on_orphan_timeout(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct keeper *k = container_of(timer, struct keeper, orphan);

	turn_enter("orphan timeout");
	(void)loop;
	(void)events;
	LOG_TEXT(k->log, LOG_LEVEL_WARN, "the workers do not end in time");
	keeper_stop(k);
}

static void on_master_gone(struct keeper *k)
{
	ev_io_stop(k->loop, &k->channel);
	if (k->orphaned)
		return;
	k->orphaned = true;
	if (!k->by_id) { /* nothing to keep for a new one */
		keeper_stop(k);
		return;
	}
	LOG_TEXT(k->log, LOG_LEVEL_ERROR, "the master is gone: ending with the workers");
	ev_timer_set(&k->orphan, k->definitions->config->timeouts.shutdown + drain_grace, 0);
	ev_timer_start(k->loop, &k->orphan);
}

/* --- the master's orders
 * ----------------------------------------------------------------------------- */

static struct definitions *definitions_create(const struct config *config, bool ours)
{
	struct definitions *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->config = config;
	d->ours = ours;
	return d;
}

/* The bytes were checked by the master: whatever is wrong with them now is not the operator's. */
static void take_config(struct keeper *k, int fd)
{
	static const struct config_defaults defaults = {
	    .runtime_dir = "/", .listen = "127.0.0.1:1", .checked = true};
	struct config_errors errors;
	struct config *config = NULL;
	struct stat status;

	size_t n = fd >= 0 && fstat(fd, &status) == 0 && status.st_size <= CONFIG_SEALED_MAX
		       ? (size_t)status.st_size
		       : 0;
	char *text = n > 0 ? malloc(n) : NULL;
	bool read = text && pread(fd, text, n, 0) == (ssize_t)n;
	int error = read ? config_parse((struct span){text, n}, &defaults, &config, &errors) : -EIO;
	if (error == -EINVAL)
		config_errors_free(&errors);
	struct definitions *d = error ? NULL : definitions_create(config, true);
	if (!d || fleets_configure(k, d))
		LOG_TEXT(k->log, LOG_LEVEL_ERROR,
		    "the new configuration can't be taken; stdio upstreams stay as they are");
	if (!error && !d)
		config_free(config);
	free(text);
}

static void report(struct keeper *k, uint32_t request, int fd)
{
	struct frame frame = {.type = CHANNEL_REPORT, .request = request};

	if (fd < 0)
		return;
	if (frame_send(k->boot->channel, &frame, NULL, fd))
		LOG_TEXT(k->log, LOG_LEVEL_WARN, "the master can't be told");
	close(fd);
}

static void restart(struct keeper *k, uint32_t request, struct span name)
{
	struct fleet *f = fleet_find(k, name);
	char message[160];

	if (!f) {
		snprintf(message, sizeof(message), "`%.*s` is no stdio upstream",
		    name.n < 64 ? (int)name.n : 64, name.p);
		report(k, request, report_outcome(false, message));
		return;
	}
	LOG(k->log, LOG_LEVEL_INFO, "upstream is restarted", LOG_STR("upstream", f->name));
	unsigned count = fleet_restart(f);
	snprintf(message, sizeof(message), "%s: %u %s", f->name, count,
	    count == 1 ? "child is ended; the next request starts a new one"
		       : "children are ended; the next requests start new ones");
	report(k, request, report_outcome(true, message));
}

static void on_channel(struct ev_loop *loop, ev_io *io, int events)
{
	struct keeper *k = container_of(io, struct keeper, channel);
	struct frame frame;
	int fd = -1, got = frame_receive(io->fd, &frame, k->scratch, &fd);

	turn_enter("master");
	(void)loop;
	(void)events;
	if (got == -EAGAIN)
		return;
	if (got != 1) {
		on_master_gone(k);
		return;
	}
	switch (frame.type) {
	case CHANNEL_LOG:
		if (fd >= 0)
			log_replace_fd(k->log, fd);
		return;
	case CHANNEL_CONFIG:
		take_config(k, fd);
		break;
	case CHANNEL_ASK:
		report(k, frame.request, report_upstreams(k));
		break;
	case CHANNEL_RESTART:
		restart(k, frame.request, (struct span){k->scratch, frame.length});
		break;
	case CHANNEL_DRAIN:
	case CHANNEL_STOP:
		keeper_stop(k);
		break;
	case CHANNEL_RETIRE:
		k->retiring = true;
		break;
	default:
		LOG(k->log, LOG_LEVEL_WARN, "unknown message from the master",
		    LOG_UINT("type", frame.type));
	}
	if (fd >= 0)
		close(fd);
}

/* --- the loop
 * --------------------------------------------------------------------------------------- */

static void on_resume(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)events;
	ev_io_start(loop, &container_of(timer, struct keeper, pause)->listener);
}

static void on_accept(struct ev_loop *loop, ev_io *io, int events)
{
	struct keeper *k = container_of(io, struct keeper, listener);

	turn_enter("accept");
	(void)events;
	for (int n = 0; n < ACCEPT_BUDGET; n++) {
		int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			peer_open(k, fd);
			continue;
		}
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		ev_io_stop(loop, io);
		ev_timer_start(loop, &k->pause);
		return;
	}
}

static void sample_memory(struct keeper *k)
{
	struct procfs_stat stat;
	struct instance *i = NULL;

	if (k->memory_id > 0)
		HASH_FIND(hh, k->by_id, &k->memory_id, sizeof(k->memory_id), i);
	if (!i)
		i = k->by_id;
	for (int n = 0; i && n < MEMORY_BUDGET; n++, i = i->hh.next)
		i->memory = i->pid > 0 && procfs_stat(i->pid, &stat) == 0 ? stat.resident : 0;
	k->memory_id = i ? i->id : 0;
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct keeper *k = container_of(timer, struct keeper, tick);
	double now = clock_coarse();
	struct instance *i, *next;

	turn_enter("tick");
	(void)loop;
	(void)events;
	for (unsigned n = 0; n < KEEPER_PEERS; n++) {
		struct peer *p = k->peers[n];
		if (p && p->congested_since > 0 && now - p->congested_since > peer_patience)
			peer_close(p, "it leaves its messages unread");
	}
	HASH_ITER (hh, k->by_id, i, next) {
		if (!i->kept)
			instance_keep(i);
	}
	tell_forgets(k);
	fleets_tick(k);
	sample_memory(k);
	metrics_heartbeat(k->metrics, clock_nanoseconds());
	log_flush(k->log);
}

/* The end of a turn: what was put is written, what is dead is freed. */
static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
	struct keeper *k = container_of(prepare, struct keeper, prepare);
	struct instance *i;

	turn_enter("end of turn");
	(void)loop;
	(void)events;
	k->spawns = 0;
	while ((i = TAILQ_FIRST(&k->dirty))) {
		TAILQ_REMOVE(&k->dirty, i, dirty);
		i->is_dirty = false;
		instance_flush(i);
	}
	for (unsigned n = 0; n < KEEPER_PEERS; n++) {
		if (k->peers[n])
			stream_flush(&k->peers[n]->stream);
	}
	while ((i = TAILQ_FIRST(&k->dead))) {
		TAILQ_REMOVE(&k->dead, i, dead);
		instance_free(i);
	}
	peers_reap(k);
	if (k->orphaned && !has_peer(k))
		keeper_stop(k);
	turn_end(&k->turn, k->metrics, k->log);
	if (k->retiring && !k->stopping && !k->orphaned && !ev_is_active(&k->leave))
		keeper_leave(k);
}

/* Only wakes the loop: the end of the turn tries again to make room. */
static void on_leave(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)timer;
	(void)events;
}

static void watch(struct keeper *k)
{
	ev_io_init(&k->listener, on_accept, k->boot->keeper_listener, EV_READ);
	ev_io_start(k->loop, &k->listener);
	/* Orders before requests: a worker may ask for what an order has just brought. */
	ev_io_init(&k->channel, on_channel, k->boot->channel, EV_READ);
	ev_set_priority(&k->channel, EV_MAXPRI);
	ev_io_start(k->loop, &k->channel);
	ev_timer_init(&k->pause, on_resume, accept_pause, 0);
	ev_timer_init(&k->orphan, on_orphan_timeout, 0, 0);
	ev_timer_init(&k->leave, on_leave, 0, 0);
	ev_timer_init(&k->tick, on_tick, 0, tick_every);
	ev_timer_start(k->loop, &k->tick);
	ev_prepare_init(&k->prepare, on_prepare);
	ev_prepare_start(k->loop, &k->prepare);
	turn_watch(&k->turn, k->loop);
}

/* Children that outlived the keeper before us, and what was under way if it made room for us. */
static void adopt(struct keeper *k)
{
	struct handover_reader left;
	bool inherited = handover_open(&left, k->boot->left);

	for (size_t i = 0; i < k->boot->vault->count; i++) {
		const struct vault_entry *kept = &k->boot->vault->rows[i];
		if (instance_adopt(k, kept, inherited))
			continue;
		LOG(k->log, LOG_LEVEL_ERROR, "a child could not be taken over",
		    LOG_UINT("id", kept->key));
		for (unsigned n = 0; n < kept->count; n++)
			close(kept->fds[n]);
		keeper_forget(k, kept->key);
	}
	if (!inherited)
		return;
	keeper_inherit(k, &left);
	handover_close(&left);
}

static int keeper_open(struct keeper *k)
{
	uint64_t random;

	TAILQ_INIT(&k->fleets);
	TAILQ_INIT(&k->dirty);
	TAILQ_INIT(&k->dead);
	TAILQ_INIT(&k->intake);
	LIST_INIT(&k->dead_peers);
	/* Numbers of an earlier keeper may still be answered: ours are others. */
	k->last_number = (uint64_t)k->boot->epoch << 32;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = clock_nanoseconds();
	cgroup_open(&k->cgroup);
	METRIC_SET(k->metrics, CHILD_CGROUPS, k->cgroup.root[0] != '\0', 0);
	LOG(k->log, LOG_LEVEL_INFO, "limits of children", LOG_STR("by", k->cgroup.text));
	snprintf(k->run, sizeof(k->run), "%016llx", (unsigned long long)random);
	int error = orphans_open(k);
	if (error)
		return error;
	struct definitions *d = definitions_create(k->boot->config, false);
	if (!d || fleets_configure(k, d))
		return -ENOMEM;
	watch(k);
	adopt(k);
	return 0;
}

static void keeper_close(struct keeper *k)
{
	struct instance *i;

	for (unsigned n = 0; n < KEEPER_PEERS; n++) {
		if (k->peers[n])
			peer_close(k->peers[n], "the keeper ends");
	}
	peers_reap(k);
	while ((i = TAILQ_FIRST(&k->dead))) {
		TAILQ_REMOVE(&k->dead, i, dead);
		instance_free(i);
	}
	fleets_close(k);
	orphans_close(k);
	free(k->rows);
	free(k->forgets);
	log_flush(k->log);
	ev_loop_destroy(k->loop);
	free(k);
}

int keeper_main(const struct role_boot *boot)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};
	struct channel_generation generation = {.generation = boot->generation};
	struct frame ready = {.type = CHANNEL_READY, .length = sizeof(generation)};
	struct keeper *k = calloc(1, sizeof(*k));

	/* Signals of a terminal reach the whole process group; only the master acts on them. */
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	if (!k || !(k->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV))) {
		free(k);
		return EXIT_FAILURE;
	}
	k->boot = boot;
	k->log = boot->log;
	k->metrics = metrics_slot_open(boot->metrics, boot->metrics_slot, getpid());
	int error = keeper_open(k);
	if (!error)
		error = frame_send(boot->channel, &ready, &generation, -1);
	if (error) {
		LOG(boot->log, LOG_LEVEL_ERROR, "keeper can't start", LOG_ERRNO(-error));
		log_flush(boot->log);
		return EXIT_FAILURE;
	}
	ev_run(k->loop, 0);
	keeper_close(k);
	return EXIT_SUCCESS;
}
