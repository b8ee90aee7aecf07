/* hangup: see hangup.h. */
#include "master/supervisor/hangup.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/address.h"
#include "common/ipc/channel.h"
#include "common/procfs.h"
#include "master/supervisor/children.h"

enum { STEP = 256 /* descriptors: less than 5 ms */ };

static const double pause_between = 0.001; /* seconds */

static bool is_client(const struct generation *g, int fd)
{
	struct sockaddr_storage local = {0};
	socklen_t length = sizeof(local);
	struct tcp_info info = {0};
	socklen_t size = sizeof(info);

	if (getsockname(fd, (struct sockaddr *)&local, &length) < 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ||
	    (info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_CLOSE_WAIT))
		return false;
	for (size_t i = 0; i < g->listeners.count; i++) {
		const struct config_address *address = &g->listeners.rows[i].config->address;
		if (address_overlap(&address->storage, &local))
			return true;
	}
	return false;
}

/*
 * As close() would: who sent what nobody read is told by a reset, which also wakes one that can't
 * send all because nobody reads; all others get what was written to them, and the end.
 */
static bool end(int fd)
{
	static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int unread = 0;

	if (ioctl(fd, SIOCINQ, &unread) == 0 && unread > 0 &&
	    connect(fd, &nowhere, sizeof(nowhere)) == 0)
		return true;
	return shutdown(fd, SHUT_RDWR) == 0;
}

static void over(struct child *c, int error)
{
	struct supervisor *s = c->supervisor;
	struct hangup *h = &c->hangup;
	char name[32];

	ev_timer_stop(s->loop, &h->step);
	child_name(c, name);
	METRIC_ADD(s->cells, WATCHDOG_CONNECTIONS, h->count, 0);
	if (error == 0 || error == ESRCH)
		LOG(s->log, LOG_LEVEL_WARN, "does not turn: its clients' connections were ended",
		    LOG_STR("child", name), LOG_INT("child_pid", c->pid),
		    LOG_UINT("connections", h->count));
	else
		LOG(s->log, LOG_LEVEL_WARN,
		    "does not turn, and its clients wait: their connections can't be ended",
		    LOG_STR("child", name), LOG_INT("child_pid", c->pid),
		    LOG_UINT("connections", h->count), LOG_ERRNO(error),
		    LOG_STR(
			"remedy", error == EPERM || error == EACCES
				      ? "give the master CAP_SYS_PTRACE, or run it as the user of "
					"its workers"
				      : "Linux 5.6 or later, and descriptors that are free"));
}

static void on_step(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct hangup *h = container_of(timer, struct hangup, step);
	struct child *c = container_of(h, struct child, hangup);

	(void)events;
	for (int budget = STEP; budget > 0 && h->next < h->end; budget--, h->next++) {
		int fd = pidfd_getfd(c->pidfd, h->next, 0);
		if (fd < 0 && errno == EBADF)
			continue;
		if (fd < 0) {
			over(c, errno);
			return;
		}
		h->count += is_client(c->generation, fd) && end(fd);
		close(fd);
	}
	if (h->next >= h->end) {
		over(c, 0);
		return;
	}
	ev_timer_set(timer, pause_between, 0);
	ev_timer_start(loop, timer);
}

void hangup_init(struct hangup *h)
{
	*h = (struct hangup){0};
	ev_timer_init(&h->step, on_step, 0, 0);
}

void hangup_begin(struct child *c)
{
	struct hangup *h = &c->hangup;

	if (h->begun || c->pidfd < 0)
		return;
	h->begun = true;
	h->count = 0;
	h->next = 0;
	const int32_t pid = c->pid;
	child_tell(c->supervisor->broker, CHANNEL_SILENT, &pid, sizeof(pid), -1);
	h->end = procfs_descriptors(c->pid);
	if (h->end < 0) {
		over(c, -h->end);
		return;
	}
	ev_timer_set(&h->step, 0, 0);
	ev_timer_start(c->supervisor->loop, &h->step);
}

void hangup_stop(struct child *c)
{
	struct hangup *h = &c->hangup;

	if (ev_is_active(&h->step))
		over(c, 0);
	h->begun = false;
}
