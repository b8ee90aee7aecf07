/*
 * spawn: see spawn.h.
 *
 * All that may fail or allocate is done before the fork; between fork and exec only calls that are
 * safe after a signal are made (signal-safety(7)), each a stage with a name.
 */
#include "master/keeper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config/reference.h"
#include "common/procfs.h"
#include "common/signals.h"

enum { VARIABLES_MAX = 4096, REPORT_FD = 3 };

static const char *const inherited[] = {
    "HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"};

enum stage {
	STAGE_GROUP,
	STAGE_SESSION,
	STAGE_PIPES,
	STAGE_LIMITS,
	STAGE_PRIVILEGES,
	STAGE_DIRECTORY,
	STAGE_EXEC
};

static const char *const stages[] = {
    [STAGE_GROUP] = "can't join its control group",
    [STAGE_SESSION] = "can't have a session of its own",
    [STAGE_PIPES] = "can't be given its pipes",
    [STAGE_LIMITS] = "can't be limited",
    [STAGE_PRIVILEGES] = "can't be denied privileges",
    [STAGE_DIRECTORY] = "can't enter its cwd",
    [STAGE_EXEC] = "can't be executed",
};

struct program {
	char **argv, **envp;
	size_t argc, envc;
	const struct config_stdio *stdio;
	int group; /* to be written to, or -1 */
};

void spawn_failure_text(const struct spawn_failure *failure, char *out, size_t size)
{
	bool known = failure->stage >= 0 && failure->stage <= STAGE_EXEC;

	snprintf(out, size, "%s: %s", known ? stages[failure->stage] : "can't be started",
	    strerror(failure->error));
}

/* --- arguments and environment
 * ---------------------------------------------------------------------- */

static void program_free(struct program *p)
{
	for (size_t i = 0; i < p->argc; i++)
		free(p->argv[i]);
	for (size_t i = 0; i < p->envc; i++)
		free(p->envp[i]);
	free(p->argv);
	free(p->envp);
}

/* A text with its references resolved, after `prefix`. NULL with `why` filled. */
static char *expand(const char *prefix, const char *text, char *why, size_t size)
{
	struct buffer out = {0};

	int error = buffer_printf(&out, REFERENCE_MAX, "%s", prefix);
	if (!error)
		error = reference_expand(text, &out, why, size);
	if (error == -ENOMEM || error == -EMSGSIZE)
		snprintf(why, size, "an argument or variable is too long");
	struct span all = buffer_span(&out);
	char *copy = error ? NULL : strndup(all.p, all.n);
	if (!error && !copy)
		snprintf(why, size, "out of memory");
	buffer_release(&out);
	return copy;
}

static int make_arguments(struct program *p, char *why, size_t size)
{
	const struct config_stdio *stdio = p->stdio;

	p->argv = calloc(stdio->arg_count + 2, sizeof(*p->argv));
	if (!p->argv || !(p->argv[p->argc] = strdup(stdio->command))) {
		snprintf(why, size, "out of memory");
		return -ENOMEM;
	}
	p->argc++;
	for (size_t i = 0; i < stdio->arg_count; i++, p->argc++) {
		p->argv[p->argc] = expand("", stdio->args[i], why, size);
		if (!p->argv[p->argc])
			return -EINVAL;
	}
	return 0;
}

/* Later values take the place of earlier ones. Takes `text`. */
static int set_variable(struct program *p, char *text)
{
	if (!text)
		return -ENOMEM;
	size_t n = strcspn(text, "=") + 1;
	for (size_t i = 0; i < p->envc; i++) {
		if (strncmp(p->envp[i], text, n) == 0) {
			free(p->envp[i]);
			p->envp[i] = text;
			return 0;
		}
	}
	if (p->envc == VARIABLES_MAX) {
		free(text);
		return -E2BIG;
	}
	p->envp[p->envc++] = text;
	return 0;
}

static int inherit(struct program *p, const char *name)
{
	const char *value = getenv(name);
	char *text = NULL;

	if (!value)
		return 0;
	if (asprintf(&text, "%s=%s", name, value) < 0)
		return -ENOMEM;
	return set_variable(p, text);
}

/* Of the service manager, for the master alone: a child must not speak for it. */
static bool is_masters(const char *variable)
{
	static const char *const beginnings[] = {"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_"};

	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
		if (strncmp(variable, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	}
	return false;
}

static int inherit_all(struct program *p)
{
	int error = 0;

	for (char **variable = environ; *variable && !error; variable++) {
		if (strchr(*variable, '=') && !is_masters(*variable))
			error = set_variable(p, strdup(*variable));
	}
	return error;
}

static int make_environment(struct program *p, const char *mark, char *why, size_t size)
{
	const struct config_stdio *stdio = p->stdio;
	char prefix[512];
	int error = 0;

	snprintf(why, size, "out of memory, or too many variables");
	p->envp = calloc(VARIABLES_MAX + 1, sizeof(*p->envp));
	if (!p->envp)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]) && !error; i++)
		error = inherit(p, inherited[i]);
	for (size_t i = 0; i < stdio->inherit_count && !error; i++)
		error = strcmp(stdio->inherit[i], "*") == 0 ? inherit_all(p)
							    : inherit(p, stdio->inherit[i]);
	for (size_t i = 0; i < stdio->env_count && !error; i++) {
		int n = snprintf(prefix, sizeof(prefix), "%s=", stdio->env[i].name);
		char *text =
		    n < (int)sizeof(prefix) ? expand(prefix, stdio->env[i].value, why, size) : NULL;
		error = text ? set_variable(p, text) : -EINVAL;
	}
	return error ? error : set_variable(p, strdup(mark));
}

/* --- in the child
 * ---------------------------------------------------------------------------------------- */

struct child_pipes {
	int in[2], out[2], err[2], report[2];
};

NORETURN static void give_up(enum stage stage)
{
	struct spawn_failure failure = {.stage = (int)stage, .error = errno};
	ssize_t n = write(REPORT_FD, &failure, sizeof(failure));

	(void)n;
	_exit(127);
}

static void take_pipes(const struct child_pipes *pipes)
{
	/* The report first: it must be where give_up looks, even if that was another pipe's place.
	 */
	int report = fcntl(pipes->report[1], F_DUPFD_CLOEXEC, 16);
	int in = fcntl(pipes->in[0], F_DUPFD_CLOEXEC, 16);
	int out = fcntl(pipes->out[1], F_DUPFD_CLOEXEC, 16);
	int err = fcntl(pipes->err[1], F_DUPFD_CLOEXEC, 16);

	if (report < 0 || dup3(report, REPORT_FD, O_CLOEXEC) < 0)
		_exit(127);
	if (in < 0 || out < 0 || err < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		give_up(STAGE_PIPES);
	close_range(REPORT_FD + 1, ~0u, 0);
}

static void limit(int resource, rlim_t value)
{
	struct rlimit now, wanted = {value, value};

	/* Nobody may raise what was lowered before us; that much is enough then. */
	if (getrlimit((__rlimit_resource_t)resource, &now) == 0 && now.rlim_max < value)
		wanted.rlim_cur = wanted.rlim_max = now.rlim_max;
	if (setrlimit((__rlimit_resource_t)resource, &wanted) < 0)
		give_up(STAGE_LIMITS);
}

static void take_limits(const struct config_stdio *stdio)
{
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_NOFILE, stdio->files);
	if (stdio->memory > 0)
		limit(RLIMIT_DATA, stdio->memory);
	if (stdio->cpu > 0)
		limit(RLIMIT_CPU, (rlim_t)(stdio->cpu < 1 ? 1 : stdio->cpu));
	if (stdio->processes > 0)
		limit(RLIMIT_NPROC, stdio->processes);
}

NORETURN static void child_run(const struct program *p, const struct child_pipes *pipes)
{
	bool grouped = p->group < 0 || write(p->group, "0", 1) == 1;

	take_pipes(pipes);
	signals_reset();
	if (!grouped)
		give_up(STAGE_GROUP);
	if (setsid() < 0)
		give_up(STAGE_SESSION);
	take_limits(p->stdio);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		give_up(STAGE_PRIVILEGES);
	umask(077);
	if (chdir(p->stdio->cwd ? p->stdio->cwd : "/") < 0)
		give_up(STAGE_DIRECTORY);
	execve(p->argv[0], p->argv, p->envp);
	give_up(STAGE_EXEC);
}

/* --- in the keeper
 * --------------------------------------------------------------------------------------- */

static void close_pair(const int pair[2])
{
	for (int i = 0; i < 2; i++) {
		if (pair[i] >= 0)
			close(pair[i]);
	}
}

static void close_pipes(const struct child_pipes *pipes)
{
	close_pair(pipes->in);
	close_pair(pipes->out);
	close_pair(pipes->err);
	close_pair(pipes->report);
}

static int open_pipes(struct child_pipes *pipes)
{
	*pipes = (struct child_pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
	if (pipe2(pipes->in, O_CLOEXEC) < 0 || pipe2(pipes->out, O_CLOEXEC) < 0 ||
	    pipe2(pipes->err, O_CLOEXEC) < 0 || pipe2(pipes->report, O_CLOEXEC) < 0 ||
	    fcntl(pipes->in[1], F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(pipes->out[0], F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(pipes->err[0], F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(pipes->report[0], F_SETFL, O_NONBLOCK) < 0) {
		int error = -errno;
		close_pipes(pipes);
		return error;
	}
	return 0;
}

static int start(const struct program *p, struct spawned *out)
{
	struct child_pipes pipes;
	struct procfs_stat stat;
	sigset_t all, before;

	int error = open_pipes(&pipes);
	if (error)
		return error;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	out->pid = fork();
	if (out->pid == 0)
		child_run(p, &pipes);
	error = -errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (out->pid < 0) {
		close_pipes(&pipes);
		return error;
	}
	close(pipes.in[0]);
	close(pipes.out[1]);
	close(pipes.err[1]);
	close(pipes.report[1]);
	out->in = pipes.in[1];
	out->out = pipes.out[0];
	out->err = pipes.err[0];
	out->report = pipes.report[0];
	/* It is ours and not reaped: it is there, if only as a zombie. */
	out->start_time = procfs_stat(out->pid, &stat) == 0 ? stat.start_time : 0;
	return 0;
}

int spawn_start(const struct config_stdio *stdio, const char *mark, int group, struct spawned *out,
    char *why, size_t size)
{
	struct program p = {.stdio = stdio, .group = group};

	int error = make_arguments(&p, why, size);
	if (!error)
		error = make_environment(&p, mark, why, size);
	if (!error && (error = start(&p, out)))
		snprintf(why, size, "can't be forked: %s", strerror(-error));
	program_free(&p);
	return error;
}
