/* takeover: who asks the broker of a dead master is patient with one that does not know of its
 * death yet, and never takes one that is busy for none. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/ipc/broker_proto.h"
#include "master/supervisor/supervisor.h"
#include "master/supervisor/upgrade.h"

static struct supervisor s;
static char directory[] = "/tmp/margay-takeover-XXXXXX", why[400];
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static int broker; /* its listener */
static pid_t pid;  /* of the broker, when there is one */

static void start(void)
{
	cr_assert_not_null(mkdtemp(directory));
	s.runtime_dir = directory;
	cr_assert(control_path(directory, BROKER_SOCKET, address.sun_path));
	broker = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(broker, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(broker, 0), 0);
}

static void finish(void)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	manifest_close(&s.heritage.manifest);
	close(broker);
	unlink(address.sun_path);
	rmdir(directory);
}

TestSuite(takeover, .init = start, .fini = finish, .timeout = 20);

/* A broker that tells the first `refusals` who ask that they may not, and all others what it has.
 */
static void serve(int refusals)
{
	static char payload[FRAME_PAYLOAD_MAX];
	static const uint32_t unknown = BROKER_UNKNOWN;
	struct frame frame, refusal = {.type = BROKER_INHERIT,
				.flags = FRAME_REPLY,
				.request = 1,
				.length = sizeof(unknown)};

	pid = fork();
	if (pid != 0)
		return;
	for (int client; (client = accept(broker, NULL, NULL)) >= 0; close(client)) {
		struct manifest m = {0};
		int fd = -1, status;
		if (poll(&(struct pollfd){.fd = client, .events = POLLIN}, 1, -1) < 0 ||
		    frame_receive(client, &frame, payload, &fd) != 1)
			_exit(1);
		if (refusals-- > 0) {
			status = frame_send(client, &refusal, &unknown, -1);
		} else {
			manifest_unread(&m, MANIFEST_HEIR);
			status = manifest_put(&m, MANIFEST_STATE, 0, SPAN("it"), NULL, 0);
			status = status ? status : manifest_tell(&m, MANIFEST_HEIR, client);
		}
		if (status)
			_exit(1);
	}
	_exit(0);
}

Test(takeover, is_not_for_a_usual_start)
{
	close(broker);
	cr_assert_eq(takeover_begin(&s, why, sizeof(why)), 0);
	cr_assert_not(s.heritage.alive);
}

Test(takeover, gets_what_the_broker_holds)
{
	serve(0);
	cr_assert_eq(takeover_begin(&s, why, sizeof(why)), 0, "%s", why);
	cr_assert(s.heritage.alive);
	cr_assert_str_eq(manifest_find(&s.heritage.manifest, MANIFEST_STATE, 0)->body, "it");
}

/* A master's lock is free a moment before it is dead. */
Test(takeover, asks_again_while_it_is_refused)
{
	serve(5);
	cr_assert_eq(takeover_begin(&s, why, sizeof(why)), 0, "%s", why);
	cr_assert(s.heritage.alive);
}

Test(takeover, gives_up_when_it_is_refused_for_good)
{
	serve(1000000);
	cr_assert_eq(takeover_begin(&s, why, sizeof(why)), -EBUSY);
	cr_assert_not(s.heritage.alive);
	cr_assert_not_null(strstr(why, "ending already"), "%s", why);
}

/* Or else its sockets would be bound anew, and all would be there twice. */
Test(takeover, takes_a_broker_whose_queue_is_full_for_one_that_is_there)
{
	int error = 0;

	while (error == 0) {
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		error = connect(fd, (struct sockaddr *)&address, sizeof(address)) ? errno : 0;
	}
	cr_assert_eq(error, EAGAIN);
	cr_assert_eq(takeover_begin(&s, why, sizeof(why)), -EAGAIN);
	cr_assert_not(s.heritage.alive);
	cr_assert_not_null(strstr(why, "does not answer"), "%s", why);
}
