/* estate: see estate.h. */
#include "master/supervisor/estate.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/exit_code.h"
#include "common/ipc/state.h"
#include "common/leftovers.h"
#include "master/supervisor/children.h"
#include "master/supervisor/pid_file.h"

/* --- the directory --- */

int estate_claim(struct supervisor *s, const struct config *config)
{
	/* With a user of their own, workers must get through to the broker's socket. */
	mode_t mode = config->user ? 0711 : 0700;
	char path[CONTROL_PATH_MAX];
	pid_t other = 0;

	if (mkdir(s->runtime_dir, mode) < 0 && errno != EEXIST) {
		fprintf(stderr, "margay: %s: %s\n", s->runtime_dir, strerror(errno));
		return EXIT_FAILED;
	}
	if (!control_path(s->runtime_dir, PID_FILE, path)) {
		fprintf(stderr, "margay: runtime_dir is too long for a Unix socket: choose a "
				"shorter one\n");
		return EXIT_CONFIG;
	}
	s->pid_file = pid_file_open(path, &other);
	if (s->pid_file == -EEXIST) {
		fprintf(stderr,
		    "margay: already running with this runtime_dir, as pid %d: stop it first, or "
		    "use another\n",
		    (int)other);
		return EXIT_FAILED;
	}
	int error = s->pid_file < 0 ? s->pid_file : pid_file_write(s->pid_file);
	if (error)
		fprintf(stderr, "margay: %s: %s\n", path, strerror(-error));
	return error ? EXIT_FAILED : 0;
}

/* --- how each is made, and known again --- */

static int make_journal(struct supervisor *s, const struct config *config)
{
	(void)config;
	for (int i = 0; i < JOURNAL_COUNT; i++) {
		s->journal[i] = memfd_create("margay-journal", MFD_CLOEXEC);
		if (s->journal[i] < 0)
			return -errno;
	}
	return 0;
}

static bool is_file(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* A Unix socket in the runtime directory, for workers and nobody else. 0 or -errno. */
static int bind_socket(struct supervisor *s, const struct config *config, int type,
    const char path[CONTROL_PATH_MAX], int *out)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)s;
	memcpy(address.sun_path, path, CONTROL_PATH_MAX);
	unlink(path);
	*out = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mode_t mask = umask(0177);
	int bound = *out < 0 ? -1 : bind(*out, (struct sockaddr *)&address, sizeof(address));
	int error = errno;
	umask(mask);
	if (bound < 0)
		return -error;
	const struct passwd *p = config->user && geteuid() == 0 ? getpwnam(config->user) : NULL;
	if (p && chown(path, p->pw_uid, p->pw_gid) < 0)
		return -errno;
	return listen(*out, 2 * CONFIG_WORKERS_MAX) < 0 ? -errno : 0;
}

static int make_broker_socket(struct supervisor *s, const struct config *config)
{
	return bind_socket(s, config, SOCK_SEQPACKET, s->broker_path, &s->broker_listener);
}

static int make_keeper_socket(struct supervisor *s, const struct config *config)
{
	return bind_socket(s, config, SOCK_STREAM, s->keeper_path, &s->keeper_listener);
}

static bool is_listener(int fd)
{
	int listens = 0;
	socklen_t length = sizeof(listens);
	struct sockaddr_un address;
	socklen_t n = sizeof(address);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens &&
	       getsockname(fd, (struct sockaddr *)&address, &n) == 0 &&
	       address.sun_family == AF_UNIX;
}

/* End what a harder death left, and start the list of children anew. 0 or -errno. */
static int make_children_file(struct supervisor *s, const struct config *config)
{
	char path[CONTROL_PATH_MAX];

	(void)config;
	if (!control_path(s->runtime_dir, CHILDREN_FILE, path))
		return -ENAMETOOLONG;
	s->children_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->children_file < 0)
		return -errno;
	leftovers_end(s->children_file, s->log);
	return 0;
}

static const struct {
	enum manifest_kind kind;
	const char *name;
	size_t place; /* of its descriptors in struct supervisor */
	unsigned count;
	bool (*is_good)(int fd);
	int (*make)(struct supervisor *s, const struct config *config);
} rows[] = {
    {MANIFEST_JOURNAL, "the session journal", offsetof(struct supervisor, journal), JOURNAL_COUNT,
	is_file, make_journal},
    {MANIFEST_BROKER_SOCKET, "the broker's socket", offsetof(struct supervisor, broker_listener), 1,
	is_listener, make_broker_socket},
    {MANIFEST_KEEPER_SOCKET, "the keeper's socket", offsetof(struct supervisor, keeper_listener), 1,
	is_listener, make_keeper_socket},
    {MANIFEST_CHILDREN_FILE, "the list of children", offsetof(struct supervisor, children_file), 1,
	is_file, make_children_file},
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

static int open_row(
    struct supervisor *s, const struct config *config, size_t i, char *why, size_t size)
{
	struct manifest_record *r = manifest_find(&s->heritage.manifest, rows[i].kind, 0);
	int *fds = (int *)(void *)((char *)s + rows[i].place);

	snprintf(why, size, "%s", rows[i].name);
	if (!r)
		return rows[i].make(s, config);
	if (r->count != rows[i].count)
		return -EINVAL;
	for (unsigned n = 0; n < r->count; n++) {
		if (!rows[i].is_good(r->fds[n]))
			return -EINVAL;
	}
	for (unsigned n = 0; n < rows[i].count; n++)
		fds[n] = manifest_steal(r, n);
	return 0;
}

/* Counters go on unless this binary counts other things. */
static int open_metrics(struct supervisor *s)
{
	struct manifest_record *r = manifest_find(&s->heritage.manifest, MANIFEST_METRICS, 0);
	int error = -EINVAL;

	if (r && r->count == 1) {
		error = metrics_adopt(r->fds[0], &s->metrics);
		if (!error)
			manifest_steal(r, 0);
		else
			LOG_TEXT(s->log, LOG_LEVEL_WARN,
			    "the metrics of the other master are laid out otherwise: counters "
			    "start from zero");
	}
	s->metrics_are_inherited = !error;
	if (error && (error = metrics_create(&s->metrics)))
		return error;
	s->metrics_slot = metrics_slot_take(s->metrics, METRIC_SLOT_MASTER, 0, 0);
	if (s->metrics_slot < 0)
		return s->metrics_slot;
	s->cells = metrics_slot_open(s->metrics, s->metrics_slot, getpid());
	return 0;
}

static int open_key(struct supervisor *s)
{
	const struct manifest_record *r =
	    manifest_find(&s->heritage.manifest, MANIFEST_SESSION_KEY, 0);

	if (r && r->length != sizeof(s->session_key))
		return -EINVAL;
	if (r)
		memcpy(s->session_key, r->body, sizeof(s->session_key));
	else if (getrandom(s->session_key, sizeof(s->session_key), 0) != sizeof(s->session_key))
		return -EIO;
	return 0;
}

static int open_listeners(struct supervisor *s, char *why, size_t size)
{
	struct manifest *m = &s->heritage.manifest;
	int error = listeners_open(&s->listeners);

	for (size_t i = 0; i < m->count && !error; i++) {
		struct manifest_record *r = &m->rows[i];
		if (r->kind != MANIFEST_LISTENER)
			continue;
		snprintf(why, size, "the listeners of %.60s", r->body);
		error = listeners_adopt(
		    s->listeners, (unsigned)(r->key >> MANIFEST_STATE_SHIFT), r->fds, r->count);
		if (!error)
			manifest_steal_all(r);
	}
	if (!error && (s->upgrade || s->heritage.alive))
		store_know(s);
	return error;
}

/* Its sockets are known to all by their paths. */
static int check_place(const struct supervisor *s, char *why, size_t size)
{
	const struct manifest_record *r =
	    manifest_find(&s->heritage.manifest, MANIFEST_BROKER_SOCKET, 0);
	struct sockaddr_un address = {0};
	socklen_t length = sizeof(address);

	if (!r || r->count != 1 ||
	    getsockname(r->fds[0], (struct sockaddr *)&address, &length) < 0 ||
	    strncmp(address.sun_path, s->broker_path, sizeof(address.sun_path)) == 0)
		return 0;
	snprintf(why, size, "runtime_dir can't change while Margay runs: its sockets are at %.100s",
	    address.sun_path);
	return -EINVAL;
}

/* A later binary may hand over what we know nothing of: it would be lost. */
static int check_kinds(const struct manifest *m, char *why, size_t size)
{
	for (size_t i = 0; i < m->count; i++) {
		if (m->rows[i].kind > 0 && m->rows[i].kind < MANIFEST_KIND_COUNT)
			continue;
		snprintf(why, size, "record of unknown kind %u", m->rows[i].kind);
		return -EINVAL;
	}
	return 0;
}

int estate_open(struct supervisor *s, const struct config *config, char *why, size_t size)
{
	const struct manifest_record *r = manifest_find(&s->heritage.manifest, MANIFEST_STATE, 0);
	int error = check_kinds(&s->heritage.manifest, why, size);

	/* Numbers go on. */
	if (r && r->length == sizeof(struct master_record))
		s->last_generation =
		    ((const struct master_record *)(const void *)r->body)->last_generation;

	if (!error && (!control_path(s->runtime_dir, BROKER_SOCKET, s->broker_path) ||
			  !control_path(s->runtime_dir, KEEPER_SOCKET, s->keeper_path)))
		error = -ENAMETOOLONG;
	if (!error)
		error = check_place(s, why, size);
	if (!error) {
		snprintf(why, size, "metrics");
		error = open_metrics(s);
	}
	if (!error) {
		snprintf(why, size, "the key of session ids");
		error = open_key(s);
	}
	for (size_t i = 0; i < ROW_COUNT && !error; i++)
		error = open_row(s, config, i, why, size);
	return error ? error : open_listeners(s, why, size);
}

/* The same file, by another number. */
static bool is_same_file(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_ino == other.st_ino &&
	       one.st_dev == other.st_dev;
}

int estate_reopen(struct supervisor *s, char *why, size_t size)
{
	const struct manifest_record *r = manifest_find(&s->heritage.manifest, MANIFEST_METRICS, 0);

	s->metrics_are_inherited =
	    r && r->count == 1 && is_same_file(r->fds[0], metrics_fd(s->metrics));
	return open_listeners(s, why, size);
}

/* Close, and remove its name in the runtime directory unless another master has it now. */
static void close_file(const struct supervisor *s, int fd, const char *name)
{
	char path[CONTROL_PATH_MAX];

	if (fd < 0)
		return;
	close(fd);
	if (s->owns && control_path(s->runtime_dir, name, path))
		unlink(path);
}

void estate_close(struct supervisor *s)
{
	if (s->listeners)
		listeners_close(s->listeners);
	vault_close(&s->vault);
	close_file(s, s->broker_listener, BROKER_SOCKET);
	close_file(s, s->keeper_listener, KEEPER_SOCKET);
	/* A keeper that had to be killed left its children. */
	if (s->children_file >= 0 && s->owns)
		leftovers_end(s->children_file, s->log);
	close_file(s, s->children_file, CHILDREN_FILE);
	for (int i = 0; i < JOURNAL_COUNT; i++) {
		if (s->journal[i] >= 0)
			close(s->journal[i]);
	}
	if (s->metrics)
		metrics_close(s->metrics);
	close_file(s, s->pid_file, PID_FILE);
}
