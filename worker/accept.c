/*
 * accept: see accept.h. Budget: one connection per wake-up and slot, for as a rule nobody else
 * waits in the same; ACCEPT_BUDGET where somebody came in the turn before, too. When descriptors
 * run out, all watchers rest for ACCEPT_PAUSE seconds, and a reserve descriptor tells one waiting
 * client 503 instead of silence.
 *
 * An address that goes takes no new connection, the master sees to that (supervisor/listeners.c);
 * what was connecting gets LEAVE_AFTER seconds to arrive, then a queue is done when it is empty.
 */
#include "worker/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/turn.h"
#include "worker/admin/admin.h"
#include "worker/http/conn.h"
#include "worker/http/handshake.h"
#include "worker/http/tls.h"
#include "worker/mcp/exchange.h"
#include "worker/policy/clients.h"
#include "worker/worker.h"

enum { ACCEPT_BUDGET = 8 };

static const double accept_pause = 0.1, leave_after = 2, leave_again = 0.05;

static const char refusal[] =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    "Content-Length: 0\r\n\r\n";

struct slot {
	ev_io io;
	struct accept_slots *slots;
	const struct listener *listener;
	unsigned served; /* turn of the loop in which somebody came */
	bool adopted;
	bool left; /* its queue is empty, and stays so */
};

struct accept_slots {
	struct worker *worker;
	ev_timer pause;
	ev_timer leave;
	uint32_t leaving; /* bit of each listener that goes and is served to its end */
	int reserve;      /* a descriptor to give up when none is left */
	bool accepting;
	struct tls_server *tls[CONFIG_LISTENS_MAX + 1]; /* of each listener; NULL: plain */
	size_t count;                                   /* listeners * LISTENER_SLOTS */
	struct slot rows[];
};

static bool slot_is_ours(const struct accept_slots *a, unsigned number)
{
	return number % a->worker->boot->workers == a->worker->boot->number;
}

static bool slot_wanted(const struct accept_slots *a, size_t i)
{
	const struct slot *s = &a->rows[i];
	bool leaving = (a->leaving >> (i / LISTENER_SLOTS) & 1) && !s->left;

	return (a->accepting || leaving) &&
	       (s->adopted || slot_is_ours(a, (unsigned)(i % LISTENER_SLOTS)));
}

/* A socket that the service manager bound stands in many slots: watching it once is enough. */
static bool slot_repeats(const struct accept_slots *a, size_t i)
{
	for (size_t k = i - i % LISTENER_SLOTS; k < i; k++) {
		if (a->rows[k].io.fd == a->rows[i].io.fd && slot_wanted(a, k))
			return true;
	}
	return false;
}

/* Watch what should be watched, rest otherwise. */
static void slots_update(struct accept_slots *a)
{
	bool resting = ev_is_active(&a->pause);

	for (size_t i = 0; i < a->count; i++) {
		struct slot *s = &a->rows[i];
		if (!resting && slot_wanted(a, i) && !slot_repeats(a, i))
			ev_io_start(a->worker->loop, &s->io);
		else
			ev_io_stop(a->worker->loop, &s->io);
	}
}

static struct tls_server *tls_of(const struct slot *s)
{
	return s->slots->tls[(s - s->slots->rows) / LISTENER_SLOTS];
}

/* A handshake is more than a client gets that there is no room for. */
static void refuse(const struct slot *s, int fd)
{
	METRIC_ADD(s->slots->worker->metrics, CONNECTIONS_REFUSED, 1, 0);
	if (!tls_of(s) && send(fd, refusal, sizeof(refusal) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		shutdown(fd, SHUT_WR);
	close(fd);
}

static void out_of_descriptors(const struct slot *s)
{
	struct accept_slots *a = s->slots;
	struct worker *w = a->worker;

	METRIC_ADD(w->metrics, ACCEPT_PAUSES, 1, 0);
	LOG(w->log, LOG_LEVEL_WARN,
	    "out of file descriptors: accepting pauses; raise RLIMIT_NOFILE",
	    LOG_UINT("connections", w->conn_count));
	if (a->reserve >= 0) {
		close(a->reserve);
		int fd = accept4(s->io.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			refuse(s, fd);
		a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	ev_timer_set(&a->pause, accept_pause, 0);
	ev_timer_start(w->loop, &a->pause);
	slots_update(a);
}

static void take(const struct slot *s, int fd, const struct sockaddr_storage *peer)
{
	struct worker *w = s->slots->worker;
	const struct listener *listener = s->listener;
	const struct config_limits *limits = &w->config->limits;
	/* An operator must reach a worker that is full of clients. */
	bool full = !listener->admin && w->conn_count >= limits->connections;
	unsigned most = listener->admin ? 0 : limits->connections_per_client;
	struct client_count *client = full ? NULL : clients_acquire(w->clients, peer, most);

	if (!client) {
		refuse(s, fd);
		return;
	}
	const struct conn_handler *handler = listener->admin ? &admin_handler : &exchange_handler;
	struct conn *c = conn_open(w, listener, handler, fd, client);
	if (!c)
		clients_release(w->clients, client);
	else if (tls_of(s))
		handshake_begin(c, tls_of(s));
}

/* False when there is nobody, or no slot, any more. */
static bool slot_serve(struct slot *s, int budget)
{
	ev_io *io = &s->io;

	for (; budget > 0; budget--) {
		struct sockaddr_storage peer = {0};
		socklen_t length = sizeof(peer);
		int fd = accept4(
		    io->fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			take(s, fd, &peer);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			out_of_descriptors(s);
			return true;
		}
		if (errno == EAGAIN || errno == EINVAL)
			return false;
		/* ECONNABORTED, EINTR, EPROTO and network errors concern one connection only. */
	}
	return true;
}

static void on_slot(struct ev_loop *loop, ev_io *io, int events)
{
	struct slot *s = container_of(io, struct slot, io);
	unsigned turn = ev_iteration(loop);

	turn_enter("accept");
	(void)events;
	slot_serve(s, turn - s->served == 1 ? ACCEPT_BUDGET : 1);
	s->served = turn;
}

static void on_pause_over(struct ev_loop *loop, ev_timer *timer, int events)
{
	turn_enter("accept");
	(void)loop;
	(void)events;
	slots_update(container_of(timer, struct accept_slots, pause));
}

static void leave_end(struct accept_slots *a)
{
	a->leaving = 0;
	ev_timer_stop(a->worker->loop, &a->leave);
	slots_update(a);
	drain_stopped_accepting(a->worker);
}

/* Leave each queue that is empty. */
static void on_leave(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct accept_slots *a = container_of(timer, struct accept_slots, leave);
	bool all = true;

	turn_enter("accept");
	(void)loop;
	(void)events;
	for (size_t i = 0; i < a->count && !ev_is_active(&a->pause); i++) {
		if (slot_wanted(a, i))
			a->rows[i].left = !slot_serve(&a->rows[i], ACCEPT_BUDGET);
		all &= !slot_wanted(a, i);
	}
	if (all && !ev_is_active(&a->pause))
		leave_end(a);
	else
		slots_update(a);
}

static int open_tls(struct accept_slots *a, const struct listener_set *set)
{
	int error = 0;

	for (size_t i = 0; i < set->count && !error; i++) {
		const struct config_tls *config = &set->rows[i].config->tls;
		if (config->on)
			error = tls_server_open(config, &a->tls[i]);
		if (error)
			LOG(a->worker->log, LOG_LEVEL_ERROR, "a certificate can't be used",
			    LOG_STR("address", set->rows[i].config->address.text),
			    LOG_ERRNO(-error));
	}
	return error;
}

int accept_open(struct worker *w, struct accept_slots **out)
{
	static const int on = 1;
	const struct listener_set *set = w->boot->listeners;
	size_t count = set->count * LISTENER_SLOTS;
	struct accept_slots *a = calloc(1, sizeof(*a) + count * sizeof(a->rows[0]));

	if (!a)
		return -ENOMEM;
	a->worker = w;
	a->count = count;
	a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ev_timer_init(&a->pause, on_pause_over, accept_pause, 0);
	ev_timer_init(&a->leave, on_leave, leave_after, leave_again);
	for (size_t i = 0; i < count; i++) {
		struct slot *s = &a->rows[i];
		s->slots = a;
		s->listener = &set->rows[i / LISTENER_SLOTS];
		ev_io_init(&s->io, on_slot, s->listener->fds[i % LISTENER_SLOTS], EV_READ);
		/* Connections inherit it. */
		setsockopt(s->io.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	}
	*out = a;
	return open_tls(a, set);
}

void accept_close(struct accept_slots *a)
{
	a->accepting = false;
	a->leaving = 0;
	slots_update(a);
	ev_timer_stop(a->worker->loop, &a->leave);
	ev_timer_stop(a->worker->loop, &a->pause);
	if (a->reserve >= 0)
		close(a->reserve);
	for (size_t i = 0; i < sizeof(a->tls) / sizeof(a->tls[0]); i++)
		tls_server_close(a->tls[i]);
	free(a);
}

void accept_start(struct accept_slots *a)
{
	a->accepting = true;
	slots_update(a);
}

void accept_leave(struct accept_slots *a, uint32_t listeners)
{
	a->accepting = false;
	a->leaving = listeners;
	if (!listeners) {
		leave_end(a);
		return;
	}
	slots_update(a);
	ev_timer_start(a->worker->loop, &a->leave);
}

static void set_adopted(struct accept_slots *a, unsigned slot, bool adopted)
{
	if (slot >= LISTENER_SLOTS)
		return;
	for (size_t i = slot; i < a->count; i += LISTENER_SLOTS)
		a->rows[i].adopted = adopted;
	slots_update(a);
}

void accept_adopt(struct accept_slots *a, unsigned slot)
{
	set_adopted(a, slot, true);
}

void accept_release(struct accept_slots *a, unsigned slot)
{
	set_adopted(a, slot, false);
}
