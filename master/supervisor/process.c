/*
 * process: what a forked child does before it becomes a worker, the broker or the keeper.
 *
 * In this order: signals to their defaults, only its own descriptors, title, privileges, then its
 * entry point. One table says what each role is. Nothing here returns to the master's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/signals.h"
#include "common/title.h"
#include "master/supervisor/children.h"

enum { KEEP_MAX = (CONFIG_LISTENS_MAX + 1) * LISTENER_SLOTS + 16 };

static const struct {
	int (*entry)(const struct role_boot *boot);
} roles[] = {
    [ROLE_WORKER] = {worker_main},
    [ROLE_BROKER] = {broker_main},
    [ROLE_KEEPER] = {keeper_main},
};

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Close every descriptor but the standard ones and `keep`. */
static void close_others(int *keep, size_t count)
{
	unsigned next = 3;

	qsort(keep, count, sizeof(keep[0]), compare_ints);
	for (size_t i = 0; i < count; i++) {
		if (keep[i] < (int)next)
			continue;
		if (keep[i] > (int)next)
			close_range(next, (unsigned)keep[i] - 1, 0);
		next = (unsigned)keep[i] + 1;
	}
	close_range(next, ~0u, 0);
}

static size_t keep_vault(int *keep, const struct vault *v)
{
	size_t count = 0;

	for (size_t i = 0; i < v->count; i++) {
		for (unsigned k = 0; k < v->rows[i].count; k++)
			keep[count++] = v->rows[i].fds[k];
	}
	return count;
}

static int keep_own(const struct role_boot *boot, const struct supervisor *s)
{
	size_t room = KEEP_MAX + FRAME_FDS_MAX * (s->vault.count + boot->left->count), count = 0;
	int *keep = calloc(room, sizeof(*keep));

	if (!keep)
		return -ENOMEM;

	keep[count++] = boot->channel;
	if (log_fd(s->log) >= 0)
		keep[count++] = log_fd(s->log);
	keep[count++] = metrics_fd(s->metrics);
	if (boot->role == ROLE_BROKER) {
		keep[count++] = boot->broker_listener;
		for (int i = 0; i < JOURNAL_COUNT; i++)
			keep[count++] = boot->journal[i];
	}
	if (boot->role == ROLE_KEEPER) {
		keep[count++] = boot->keeper_listener;
		keep[count++] = boot->children_file;
		count += keep_vault(keep + count, &s->vault);
	}
	count += keep_vault(keep + count, boot->left);
	for (size_t i = 0; boot->listeners && i < boot->listeners->count; i++) {
		for (int slot = 0; slot < LISTENER_SLOTS; slot++)
			keep[count++] = boot->listeners->rows[i].fds[slot];
	}
	close_others(keep, count);
	free(keep);
	return 0;
}

/* Become the configured user for good. 0 or -errno. */
static int privileges_drop(const char *user)
{
	if (!user || geteuid() != 0)
		return 0;
	errno = 0;
	const struct passwd *p = getpwnam(user);
	if (!p)
		return errno ? -errno : -ENOENT;
	if (initgroups(user, p->pw_gid) < 0 || setresgid(p->pw_gid, p->pw_gid, p->pw_gid) < 0 ||
	    setresuid(p->pw_uid, p->pw_uid, p->pw_uid) < 0)
		return -errno;
	return p->pw_uid != 0 && setuid(0) == 0 ? -EPERM : 0;
}

/* A daemon's start is still heard on the terminal, but its children must not hold on to it. */
static void let_go_of_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static void set_title(const struct child *c)
{
	char name[32];

	child_name(c, name);
	if (c->role == ROLE_WORKER)
		title_set("%s (gen %u)", name, c->generation->number);
	else
		title_set("%s", name);
}

void process_run(struct child *c, int channel)
{
	struct supervisor *s = c->supervisor;
	/* Who is started again goes by what serves, not by what is still being tried. */
	const struct generation *serving =
	    s->current ? s->current : TAILQ_LAST(&s->generations, generation_list);
	const struct generation *g = c->generation ? c->generation : serving;
	static struct role_boot boot;
	char name[32];

	/* From the first moment on it can be seen whose slot it is (metrics_reap_gone). */
	(void)metrics_slot_open(s->metrics, c->metrics_slot, getpid());
	signals_reset();
	boot = (struct role_boot){.role = c->role,
	    .generation = g->number,
	    .number = c->number,
	    .workers = g->config->workers,
	    .channel = channel,
	    .config = g->config,
	    .listeners = c->role == ROLE_WORKER ? &g->listeners : NULL,
	    .broker_path = s->broker_path,
	    .broker_listener = c->role == ROLE_BROKER ? s->broker_listener : -1,
	    .keeper_path = s->keeper_path,
	    .keeper_listener = c->role == ROLE_KEEPER ? s->keeper_listener : -1,
	    .children_file = c->role == ROLE_KEEPER ? s->children_file : -1,
	    .epoch = s->keeper_epoch,
	    .vault = &s->vault,
	    .left = &c->left,
	    .metrics = s->metrics,
	    .metrics_slot = c->metrics_slot,
	    .log = s->log};
	for (int i = 0; i < JOURNAL_COUNT; i++)
		boot.journal[i] = c->role == ROLE_BROKER ? s->journal[i] : -1;
	memcpy(boot.session_key, s->session_key, sizeof(boot.session_key));
	child_name(c, name);
	log_set_process(s->log, name);
	if (s->daemon_report >= 0)
		let_go_of_terminal();
	int error = keep_own(&boot, s);
	set_title(c);
	if (!error)
		error = privileges_drop(g->config->user);
	if (error || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		LOG(s->log, LOG_LEVEL_ERROR, "can't become what it is to be",
		    LOG_STR("user", g->config->user ? g->config->user : ""),
		    LOG_ERRNO(error ? -error : errno));
		_exit(1);
	}
	int code = roles[c->role].entry(&boot);
	log_flush(s->log);
	exit(code);
}
