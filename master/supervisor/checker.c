/* checker: see checker.h. */
#include "master/supervisor/checker.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/config/config.h"
#include "common/signals.h"
#include "common/title.h"

enum { VERDICT_MAX = 1024 * 1024 };

static const double patience = 10; /* seconds */

struct checker {
	struct ev_loop *loop;
	char *name;
	struct config_defaults defaults; /* what it points to is the source's */
	struct buffer bytes, verdict;
	checker_done *done;
	void *context;
	pid_t pid;
	int pipe;
	bool reaped, ended;
	int status;
	ev_io io;
	ev_child exit;
	ev_timer deadline;
};

struct cJSON *checker_error(
    const char *file, unsigned line, const char *key, const char *problem, const char *remedy)
{
	cJSON *row = cJSON_CreateObject();

	if (!row || !cJSON_AddStringToObject(row, "file", file) ||
	    !cJSON_AddNumberToObject(row, "line", line) ||
	    !cJSON_AddStringToObject(row, "key", key) ||
	    !cJSON_AddStringToObject(row, "problem", problem) ||
	    !cJSON_AddStringToObject(row, "remedy", remedy)) {
		cJSON_Delete(row);
		return NULL;
	}
	return row;
}

cJSON *checker_errors(const char *file, const struct config_errors *errors)
{
	cJSON *rows = cJSON_CreateArray();

	for (size_t i = 0; rows && i < errors->count; i++) {
		const struct config_error *e = &errors->rows[i];
		cJSON_AddItemToArray(
		    rows, checker_error(file, e->line, e->key, e->problem, e->remedy));
	}
	return rows;
}

static void checker_free(struct checker *k)
{
	ev_io_stop(k->loop, &k->io);
	ev_child_stop(k->loop, &k->exit);
	ev_timer_stop(k->loop, &k->deadline);
	close(k->pipe);
	buffer_release(&k->bytes);
	buffer_release(&k->verdict);
	free(k->name);
	free(k);
}

/* In the child: judge, tell, end. */
NORETURN static void judge(const struct checker *k, int out)
{
	struct span bytes = buffer_span(&k->bytes);
	struct config_errors errors;
	struct config *config = NULL;
	int status = config_parse(bytes, &k->defaults, &config, &errors);
	cJSON *rows = checker_errors(k->name, &errors);
	char *text =
	    rows && (status == 0 || status == -EINVAL) ? cJSON_PrintUnformatted(rows) : NULL;
	size_t n = text ? strlen(text) : 0;
	for (size_t sent = 0; sent < n;) {
		ssize_t written = write(out, text + sent, n - sent);
		if (written < 0 && errno != EINTR)
			_exit(1);
		sent += written > 0 ? (size_t)written : 0;
	}
	_exit(text ? 0 : 1);
}

/* Both the verdict and the exit status are here. */
static void finish(struct checker *k)
{
	struct span text = buffer_span(&k->verdict);
	cJSON *errors = NULL;

	if (WIFEXITED(k->status) && WEXITSTATUS(k->status) == 0)
		errors = cJSON_ParseWithLength(text.p, text.n);
	if (!cJSON_IsArray(errors)) {
		cJSON_Delete(errors);
		errors = cJSON_CreateArray();
		cJSON_AddItemToArray(
		    errors, checker_error(k->name, 0, "(document)", "the check did not finish",
				"run `margay check`; if it fails too, report this file"));
	}
	k->done(k, errors);
	checker_free(k);
}

static void on_pipe(struct ev_loop *loop, ev_io *io, int events)
{
	struct checker *k = container_of(io, struct checker, io);
	char block[16384];

	(void)events;
	ssize_t n = read(io->fd, block, sizeof(block));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && buffer_append(&k->verdict, block, (size_t)n, VERDICT_MAX) == 0)
		return;
	if (n > 0)
		kill(k->pid, SIGKILL);
	ev_io_stop(loop, io);
	k->ended = true;
	if (k->reaped)
		finish(k);
}

static void on_exit_status(struct ev_loop *loop, ev_child *exit, int events)
{
	struct checker *k = container_of(exit, struct checker, exit);

	(void)events;
	ev_child_stop(loop, exit);
	k->reaped = true;
	k->status = exit->rstatus;
	if (k->ended)
		finish(k);
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	kill(container_of(timer, struct checker, deadline)->pid, SIGKILL);
}

NORETURN static void child_run(const struct checker *k, int out)
{
	signals_reset();
	dup2(out, 3);
	close_range(4, ~0u, 0);
	title_set("checker");
	judge(k, 3);
}

int checker_start(struct ev_loop *loop, const char *name, const struct config_defaults *defaults,
    struct buffer *bytes, checker_done *done, void *context, struct checker **out)
{
	struct checker *k = calloc(1, sizeof(*k));
	sigset_t all, before;
	int ends[2];

	if (!k || !(k->name = strdup(name)) || pipe2(ends, O_CLOEXEC) < 0) {
		int error = k && k->name ? -errno : -ENOMEM;
		free(k ? k->name : NULL);
		free(k);
		return error;
	}
	k->loop = loop;
	k->defaults = *defaults;
	k->bytes = *bytes;
	k->done = done;
	k->context = context;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	k->pid = fork();
	if (k->pid == 0)
		child_run(k, ends[1]);
	int error = -errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
	if (k->pid < 0) {
		close(ends[0]);
		free(k->name);
		free(k);
		return error;
	}
	*bytes = (struct buffer){0};
	k->pipe = ends[0];
	fcntl(k->pipe, F_SETFL, O_NONBLOCK);
	ev_io_init(&k->io, on_pipe, k->pipe, EV_READ);
	ev_io_start(loop, &k->io);
	ev_child_init(&k->exit, on_exit_status, k->pid, 0);
	ev_child_start(loop, &k->exit);
	ev_timer_init(&k->deadline, on_deadline, patience, 0);
	ev_timer_start(loop, &k->deadline);
	*out = k;
	return 0;
}

void checker_cancel(struct checker *k)
{
	kill(k->pid, SIGKILL);
	/* Reaped by the loop's own SIGCHLD handling, or by init after us. */
	checker_free(k);
}

const struct buffer *checker_bytes(const struct checker *k)
{
	return &k->bytes;
}

void *checker_context(const struct checker *k)
{
	return k->context;
}
