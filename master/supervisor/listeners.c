/* listeners: see listeners.h. */
#include "master/supervisor/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <bsd/sys/queue.h>

#include "common/address.h"

enum { LISTENER_BACKLOG = 4096 };

/* More than the workers wait before they find a queue empty for good (worker/accept.c). */
static const double leave_after = 3, leave_again = 0.25; /* seconds */

struct bound {
	LIST_ENTRY(bound) link;
	struct sockaddr_storage storage;
	socklen_t length;
	unsigned references, key;
	unsigned count; /* of different sockets: LISTENER_SLOTS, unless others bound them */
	bool leaving;
	bool activated; /* the service manager's: see listeners.h */
	int fds[LISTENER_SLOTS];
};

struct listeners {
	LIST_HEAD(, bound) rows;
	struct ev_loop *loop; /* while `leave` runs */
	ev_timer leave;
	unsigned last_key;
};

int listeners_open(struct listeners **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	LIST_INIT(&(*out)->rows);
	return 0;
}

static void bound_close(struct bound *b)
{
	LIST_REMOVE(b, link);
	for (unsigned i = 0; i < b->count; i++) {
		if (b->fds[i] >= 0)
			close(b->fds[i]);
	}
	free(b);
}

static void leave_stop(struct listeners *l)
{
	if (l->loop)
		ev_timer_stop(l->loop, &l->leave);
	l->loop = NULL;
}

void listeners_close(struct listeners *l)
{
	leave_stop(l);
	while (!LIST_EMPTY(&l->rows))
		bound_close(LIST_FIRST(&l->rows));
	free(l);
}

/* All members of a group carry the same options, or the kernel keeps them apart. */
static int bind_slot(const struct config_address *address)
{
	static const int on = 1;
	int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    (address->storage.ss_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0 ||
	    listen(fd, LISTENER_BACKLOG) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

/*
 * SO_REUSEPORT would let us share an address with another program of this user, and each would get
 * half of the clients: a plain bind first finds out whether the address is free.
 */
static int check_free(const struct config_address *address)
{
	static const int on = 1;
	int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (address->storage.ss_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0)
		error = -errno;
	close(fd);
	return error;
}

static int bound_open(struct listeners *l, const struct config_address *address, struct bound **out)
{
	struct bound *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->storage = address->storage;
	b->length = address->length;
	b->count = LISTENER_SLOTS;
	b->key = ++l->last_key;
	memset(b->fds, -1, sizeof(b->fds));
	LIST_INSERT_HEAD(&l->rows, b, link);
	int error = check_free(address);
	for (int i = 0; i < LISTENER_SLOTS && !error; i++) {
		b->fds[i] = bind_slot(address);
		error = b->fds[i] < 0 ? b->fds[i] : 0;
	}
	if (error) {
		bound_close(b);
		return error;
	}
	*out = b;
	return 0;
}

/* --- addresses that go --- */

/* Drop what has SYN set: byte 13 of the TCP header, which is where a filter's view begins. */
static void drop_syn(int fd)
{
	static struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
	    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, TH_SYN, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, 0),
	    BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	static const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	/* Without it who connects now may be reset later: no reason not to go on. */
	setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

/* True when nobody waits in its queue, or it listens no more. */
static bool is_empty(int fd)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);

	/* Of a listening socket this is the length of the queue. */
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ||
	       info.tcpi_state != TCP_LISTEN || info.tcpi_unacked == 0;
}

static bool is_left(const struct bound *b)
{
	for (unsigned i = 0; i < b->count; i++) {
		if (!is_empty(b->fds[i]))
			return false;
	}
	return true;
}

static void bound_refuse(struct bound *b)
{
	for (unsigned i = 0; i < b->count; i++)
		shutdown(b->fds[i], SHUT_RD);
}

static void on_leave(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct listeners *l = container_of(timer, struct listeners, leave);
	bool all = true;
	struct bound *b;

	(void)loop;
	(void)events;
	LIST_FOREACH (b, &l->rows, link) {
		if (b->activated)
			continue;
		if (b->leaving && is_left(b))
			bound_refuse(b);
		else
			all &= !b->leaving;
	}
	if (all)
		leave_stop(l);
}

static void bound_leave(struct bound *b)
{
	b->leaving = true;
	for (unsigned i = 0; i < b->count && !b->activated; i++)
		drop_syn(b->fds[i]);
}

static void bound_return(struct bound *b)
{
	static const int unused = 0;

	b->leaving = false;
	for (unsigned i = 0; i < b->count && !b->activated; i++) {
		setsockopt(b->fds[i], SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused));
		/* It may have stopped already. */
		listen(b->fds[i], LISTENER_BACKLOG);
	}
}

static bool set_has(const struct listener_set *set, const struct sockaddr_storage *storage)
{
	for (size_t i = 0; i < set->count; i++) {
		if (address_equal(&set->rows[i].config->address.storage, storage))
			return true;
	}
	return false;
}

void listeners_commit(struct listeners *l, const struct listener_set *set, struct ev_loop *loop)
{
	bool any = false;
	struct bound *b;

	LIST_FOREACH (b, &l->rows, link) {
		bool stays = set_has(set, &b->storage);
		if (!stays && !b->leaving)
			bound_leave(b);
		else if (stays && b->leaving)
			bound_return(b);
		any |= !stays && !b->activated;
	}
	leave_stop(l);
	if (!any)
		return;
	l->loop = loop;
	ev_timer_init(&l->leave, on_leave, leave_after, leave_again);
	ev_timer_start(loop, &l->leave);
}

uint32_t listeners_leaving(const struct listener_set *old, const struct listener_set *set)
{
	uint32_t leaving = 0;

	for (size_t i = 0; i < old->count; i++)
		leaving |= (uint32_t)!set_has(set, &old->rows[i].config->address.storage) << i;
	return leaving;
}

void listeners_refuse(struct listeners *l)
{
	struct bound *b;

	LIST_FOREACH (b, &l->rows, link) {
		if (!b->activated)
			bound_refuse(b);
	}
}

static struct bound *bound_find(struct listeners *l, const struct sockaddr_storage *storage)
{
	struct bound *b;

	LIST_FOREACH (b, &l->rows, link) {
		if (address_equal(&b->storage, storage))
			return b;
	}
	return NULL;
}

static int acquire(
    struct listeners *l, const struct config_listen *listen, bool admin, struct listener_set *set)
{
	struct bound *b = bound_find(l, &listen->address.storage);

	if (!b) {
		int error = bound_open(l, &listen->address, &b);
		if (error)
			return error;
	}
	b->references++;
	struct listener *row = &set->rows[set->count++];
	row->config = listen;
	row->admin = admin;
	memcpy(row->fds, b->fds, sizeof(row->fds));
	return 0;
}

/* What to do about an address that can't be bound. */
static const char *remedy_for(
    const struct listeners *l, const struct config_address *address, int error)
{
	static const struct {
		int error;
		const char *remedy;
	} remedies[] = {
	    {-EADDRINUSE, "stop the program that has it, or use another port"},
	    {-EADDRNOTAVAIL, "use an address of this machine, or *"},
	    {-EAFNOSUPPORT, "use an IPv4 address; this machine has no IPv6"},
	    {-EACCES, "use a port from 1024, or give Margay CAP_NET_BIND_SERVICE"},
	    {-EMFILE, "raise RLIMIT_NOFILE"},
	};
	const struct bound *b;

	LIST_FOREACH (b, &l->rows, link) {
		if (error == -EADDRINUSE && address_overlap(&b->storage, &address->storage))
			return "Margay itself has a part of it: reload without that first";
	}
	for (size_t i = 0; i < sizeof(remedies) / sizeof(remedies[0]); i++) {
		if (remedies[i].error == error)
			return remedies[i].remedy;
	}
	return "use another address";
}

static int acquire_or_tell(struct listeners *l, const struct config_listen *listen, bool admin,
    struct listener_set *set, struct config_errors *errors)
{
	const struct config_address *a = &listen->address;
	int error = acquire(l, listen, admin, set);

	if (!error || error == -ENOMEM)
		return error;
	int added = config_errors_add(errors, a->line, a->key, remedy_for(l, a, error),
	    "can't listen on `%s`: %s", a->text, strerror(-error));
	return added ? added : error;
}

int listeners_acquire(struct listeners *l, const struct config *config, struct listener_set *set,
    struct config_errors *errors)
{
	int error = 0;

	set->count = 0;
	/* All of them, so that one look shows whatever is in the way. */
	for (size_t i = 0; i < config->listen_count; i++) {
		int failed = acquire_or_tell(l, &config->listens[i], false, set, errors);
		error = error ? error : failed;
	}
	if (config->has_admin) {
		int failed = acquire_or_tell(l, &config->admin, true, set, errors);
		error = error ? error : failed;
	}
	if (error)
		listeners_release(l, set);
	return error;
}

void listeners_release(struct listeners *l, struct listener_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		struct bound *b = bound_find(l, &set->rows[i].config->address.storage);
		if (b && --b->references == 0 && !b->activated)
			bound_close(b);
	}
	set->count = 0;
}

void listeners_each(const struct listeners *l, listeners_visit *visit, void *context)
{
	const struct bound *b;

	LIST_FOREACH (b, &l->rows, link)
		visit(context, b->key,
		    (b->leaving ? LISTENERS_LEAVING : 0) | (b->activated ? LISTENERS_ACTIVATED : 0),
		    &b->storage, b->fds, b->count);
}

static bool has(int fd, int option, int wanted)
{
	int value = -1;
	socklen_t length = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
}

/* A listening TCP socket at the address of the first, which is filled in. */
static bool is_slot(int fd, bool first, bool shared, struct bound *b)
{
	struct sockaddr_storage storage = {0};
	socklen_t length = sizeof(storage);

	if (!has(fd, SO_TYPE, SOCK_STREAM) || (!b->leaving && !has(fd, SO_ACCEPTCONN, 1)) ||
	    (shared && !has(fd, SO_REUSEPORT, 1)) ||
	    getsockname(fd, (struct sockaddr *)&storage, &length) < 0 ||
	    (storage.ss_family != AF_INET && storage.ss_family != AF_INET6))
		return false;
	if (first) {
		b->storage = storage;
		b->length = length;
	}
	return address_equal(&storage, &b->storage);
}

int listeners_adopt(struct listeners *l, unsigned state, const int *fds, unsigned count)
{
	struct bound *b = calloc(1, sizeof(*b));
	bool good = count > 0 && count <= LISTENER_SLOTS;

	if (!b)
		return -ENOMEM;
	b->leaving = state & LISTENERS_LEAVING;
	b->activated = state & LISTENERS_ACTIVATED;
	for (unsigned i = 0; i < count && good; i++)
		good = is_slot(fds[i], i == 0, count > 1, b) &&
		       fcntl(fds[i], F_SETFL, O_NONBLOCK) == 0;
	if (!good || bound_find(l, &b->storage)) {
		free(b);
		return -EINVAL;
	}
	b->count = count;
	b->key = ++l->last_key;
	/* Where there are fewer, several workers watch one. */
	for (unsigned i = 0; i < LISTENER_SLOTS; i++)
		b->fds[i] = fds[i % count];
	LIST_INSERT_HEAD(&l->rows, b, link);
	return 0;
}

unsigned listeners_close_unused(struct listeners *l, char name[ADDRESS_TEXT_MAX])
{
	struct bound *b, *next;
	unsigned closed = 0;

	LIST_FOREACH_SAFE (b, &l->rows, link, next) {
		if (b->references > 0 || b->activated)
			continue;
		address_format(&b->storage, name);
		bound_close(b);
		closed++;
	}
	return closed;
}

void listeners_retire(struct listeners *l)
{
	leave_stop(l);
}
