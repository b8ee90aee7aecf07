/* listeners: one port, many slots, and a queue that survives the process that served it. */
#include "master/supervisor/listeners.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/address.h"

static struct config_listen rows[2] = {
    {.address = {.text = "first"}}, {.address = {.text = "second", .line = 7, .key = "x"}}};
static struct config config = {.listens = rows, .listen_count = 1};
static struct config_errors failed;

/* A loopback port that was free a moment ago. */
static void choose_port(struct config_listen *listen)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&listen->address.storage;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*in =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	listen->address.length = sizeof(*in);
	cr_assert_eq(bind(fd, (struct sockaddr *)in, sizeof(*in)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)in, &listen->address.length), 0);
	close(fd);
}

static int connect_to(const struct config_listen *listen)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (const struct sockaddr *)&listen->address.storage, listen->address.length) <
	    0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The next connection from any slot, or -1 when none comes. */
static int accept_any(const struct listener *l)
{
	struct pollfd fds[LISTENER_SLOTS];

	for (int i = 0; i < LISTENER_SLOTS; i++)
		fds[i] = (struct pollfd){.fd = l->fds[i], .events = POLLIN};
	if (poll(fds, LISTENER_SLOTS, 2000) <= 0)
		return -1;
	for (int i = 0; i < LISTENER_SLOTS; i++) {
		if (fds[i].revents & POLLIN)
			return accept4(l->fds[i], NULL, NULL, SOCK_CLOEXEC);
	}
	return -1;
}

Test(listeners, all_slots_share_the_port_and_spread_connections)
{
	struct listeners *l;
	struct listener_set set;
	int clients[64];

	choose_port(&rows[0]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_acquire(l, &config, &set, &failed), 0);
	cr_assert_eq(set.count, 1);
	for (int i = 0; i < 64; i++)
		cr_assert_geq(clients[i] = connect_to(&rows[0]), 0);
	int used = 0;
	for (int i = 0; i < LISTENER_SLOTS; i++) {
		struct pollfd one = {.fd = set.rows[0].fds[i], .events = POLLIN};
		used += poll(&one, 1, 0) == 1;
	}
	cr_assert_gt(used, 8, "%d of %d slots have a connection", used, LISTENER_SLOTS);
	for (int i = 0; i < 64; i++)
		close(clients[i]);
	listeners_release(l, &set);
	listeners_close(l);
}

Test(listeners, a_queued_connection_survives_the_process_that_would_have_taken_it)
{
	struct listeners *l;
	struct listener_set set;

	choose_port(&rows[0]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_acquire(l, &config, &set, &failed), 0);
	pid_t pid = fork();
	if (pid == 0) {
		pause(); /* has the slots, accepts nothing */
		_exit(0);
	}
	int client = connect_to(&rows[0]);
	cr_assert_geq(client, 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	int served = accept_any(&set.rows[0]);
	cr_assert_geq(served, 0);
	close(served);
	close(client);
	listeners_release(l, &set);
	listeners_close(l);
}

Test(listeners, an_address_stays_bound_while_a_generation_uses_it)
{
	struct listeners *l;
	struct listener_set first, second;

	choose_port(&rows[0]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_acquire(l, &config, &first, &failed), 0);
	cr_assert_eq(listeners_acquire(l, &config, &second, &failed), 0);
	cr_assert_arr_eq(first.rows[0].fds, second.rows[0].fds, sizeof(first.rows[0].fds));
	listeners_release(l, &first);
	int client = connect_to(&rows[0]);
	cr_assert_geq(client, 0);
	close(client);
	listeners_release(l, &second);
	cr_assert_lt(connect_to(&rows[0]), 0);
	listeners_close(l);
}

Test(listeners, an_address_that_is_taken_is_named_and_nothing_else_stays_bound)
{
	struct listeners *l, *other;
	struct listener_set set, taken;
	struct config both = {.listens = rows, .listen_count = 2};
	struct config second = {.listens = rows + 1, .listen_count = 1};

	choose_port(&rows[0]);
	choose_port(&rows[1]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_open(&other), 0);
	cr_assert_eq(listeners_acquire(other, &second, &taken, &failed), 0);
	cr_assert_eq(listeners_acquire(l, &both, &set, &failed), -EADDRINUSE);
	cr_assert_eq(failed.count, 1);
	cr_assert_eq(failed.rows[0].line, 7);
	cr_assert_str_eq(failed.rows[0].key, "x");
	cr_assert_str_eq(
	    failed.rows[0].problem, "can't listen on `second`: Address already in use");
	config_errors_free(&failed);
	cr_assert_lt(connect_to(&rows[0]), 0, "the first address was given back");
	listeners_release(other, &taken);
	listeners_close(other);
	listeners_close(l);
}

Test(listeners, what_serves_stays_bound_when_others_fail)
{
	struct listeners *l, *other;
	struct listener_set serving, set, taken;
	struct config both = {.listens = rows, .listen_count = 2};
	struct config second = {.listens = rows + 1, .listen_count = 1};

	choose_port(&rows[0]);
	choose_port(&rows[1]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_open(&other), 0);
	cr_assert_eq(listeners_acquire(other, &second, &taken, &failed), 0);
	cr_assert_eq(listeners_acquire(l, &config, &serving, &failed), 0);
	cr_assert_eq(listeners_acquire(l, &both, &set, &failed), -EADDRINUSE);
	config_errors_free(&failed);
	listeners_release(l, &set); /* as whoever has a set does at the end */
	int client = connect_to(&rows[0]);
	cr_assert_geq(client, 0);
	close(client);
	listeners_release(other, &taken);
	listeners_release(l, &serving);
	listeners_close(other);
	listeners_close(l);
}

Test(listeners, who_connects_while_stopping_is_told_at_once)
{
	struct listeners *l;
	struct listener_set set;

	choose_port(&rows[0]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_acquire(l, &config, &set, &failed), 0);
	listeners_refuse(l);
	cr_assert_lt(connect_to(&rows[0]), 0);
	listeners_release(l, &set);
	listeners_close(l);
}

/* Whether a connection stands after a moment. */
static bool connects_soon(const struct config_listen *listen)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct pollfd done = {.fd = fd, .events = POLLOUT};

	connect(fd, (const struct sockaddr *)&listen->address.storage, listen->address.length);
	bool answered = poll(&done, 1, 200) == 1;
	close(fd);
	return answered;
}

Test(listeners, an_address_that_goes_keeps_its_queue_takes_nobody_and_may_come_back)
{
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
	struct listener_set set, none = {.count = 0};
	struct listeners *l;

	choose_port(&rows[0]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_acquire(l, &config, &set, &failed), 0);
	int client = connect_to(&rows[0]);
	cr_assert_geq(client, 0);
	listeners_commit(l, &none, loop);
	cr_assert_not(connects_soon(&rows[0]));
	listeners_commit(l, &set, loop);
	cr_assert(connects_soon(&rows[0]));
	close(accept_any(&set.rows[0])); /* one of the two; the other stays queued */
	listeners_commit(l, &none, loop);
	ev_run(loop, EVRUN_ONCE);
	int served = accept_any(&set.rows[0]);
	cr_assert_geq(served, 0, "it was not left with somebody in its queue");
	ev_run(loop, 0); /* until it is left */
	cr_assert_lt(connect_to(&rows[0]), 0);
	listeners_commit(l, &set, loop);
	cr_assert(connects_soon(&rows[0]));
	close(served);
	close(client);
	listeners_release(l, &set);
	listeners_close(l);
	ev_loop_destroy(loop);
}

Test(listeners, what_leaves_is_told_by_its_bits)
{
	struct listener_set old, new;
	struct listeners *l;
	struct config both = {.listens = rows, .listen_count = 2};

	choose_port(&rows[0]);
	choose_port(&rows[1]);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_acquire(l, &both, &old, &failed), 0);
	cr_assert_eq(listeners_acquire(l, &config, &new, &failed), 0);
	cr_assert_eq(listeners_leaving(&old, &new), 2);
	cr_assert_eq(listeners_leaving(&new, &old), 0);
	listeners_release(l, &old);
	listeners_release(l, &new);
	listeners_close(l);
}

/* A socket of SOCK_STREAM at `port` (0: any), as a master hands it over. */
static int bind_one(uint16_t port, bool shared, bool listens)
{
	static const int on = 1;
	struct sockaddr_in in = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (shared)
		cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	if (listens)
		cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in in;
	socklen_t length = sizeof(in);

	cr_assert_eq(getsockname(fd, (struct sockaddr *)&in, &length), 0);
	return ntohs(in.sin_port);
}

Test(listeners, what_is_no_slot_of_one_address_is_not_taken_over)
{
	struct listeners *l;
	int good = bind_one(0, true, true), same = bind_one(port_of(good), true, true);
	const struct {
		const char *what;
		int fds[2];
		unsigned count, state;
	} rows_refused[] = {
	    {"nothing", {-1}, 0, 0},
	    {"does not listen", {bind_one(0, true, false)}, 1, 0},
	    {"another address", {good, bind_one(0, true, true)}, 2, 0},
	    {"one of two that is not shared", {bind_one(0, false, true), good}, 2, 0},
	    {"a file", {open("/dev/null", O_RDONLY | O_CLOEXEC)}, 1, 0},
	    {"a datagram socket", {socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)}, 1,
		LISTENERS_LEAVING},
	    {"a Unix socket", {socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)}, 1,
		LISTENERS_LEAVING},
	    {"closed", {-1}, 1, 0},
	};

	cr_assert_eq(listeners_open(&l), 0);
	for (size_t i = 0; i < sizeof(rows_refused) / sizeof(rows_refused[0]); i++)
		cr_expect_eq(listeners_adopt(l, rows_refused[i].state, rows_refused[i].fds,
				 rows_refused[i].count),
		    -EINVAL, "%s", rows_refused[i].what);
	const int both[] = {good, same};
	cr_assert_eq(listeners_adopt(l, 0, both, 2), 0);
	cr_assert_eq(listeners_adopt(l, 0, both, 2), -EINVAL, "the address is there already");
	char name[ADDRESS_TEXT_MAX];
	cr_assert_eq(listeners_close_unused(l, name), 1, "nobody claims it");
	listeners_close(l);
}

/* As a service manager has it: one socket, of which it keeps a copy. */
static int listen_alone(const struct config_listen *row)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(
	    bind(fd, (const struct sockaddr *)&row->address.storage, row->address.length), 0);
	cr_assert_eq(listen(fd, 8), 0);
	return fd;
}

Test(listeners, what_the_service_manager_bound_goes_on_listening_whatever_happens)
{
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
	struct listener_set set, none = {.count = 0};
	char name[ADDRESS_TEXT_MAX];
	struct listeners *l;

	choose_port(&rows[0]);
	int managers = listen_alone(&rows[0]), fd = dup(managers);
	cr_assert_eq(listeners_open(&l), 0);
	cr_assert_eq(listeners_adopt(l, LISTENERS_ACTIVATED, &fd, 1), 0);
	cr_assert_eq(listeners_acquire(l, &config, &set, &failed), 0);
	cr_expect_eq(set.rows[0].fds[0], fd);
	cr_expect_eq(set.rows[0].fds[LISTENER_SLOTS - 1], fd);
	listeners_commit(l, &set, loop);
	listeners_commit(l, &none, loop);
	ev_run(loop, 0); /* nothing is waited for */
	cr_expect(connects_soon(&rows[0]));
	listeners_release(l, &set);
	cr_expect_eq(listeners_close_unused(l, name), 0);
	cr_expect_eq(listeners_acquire(l, &config, &set, &failed), 0, "it can come back");
	listeners_commit(l, &set, loop);
	listeners_refuse(l);
	cr_expect(connects_soon(&rows[0]));
	listeners_close(l);
	cr_expect(connects_soon(&rows[0]));
	close(managers);
	ev_loop_destroy(loop);
}
