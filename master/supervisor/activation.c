/* activation: see activation.h. A name that is one of store.h's says that it comes from there, and
 * any other that it is a socket unit's. */
#include "master/supervisor/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/exit_code.h"
#include "master/supervisor/supervisor.h"

static const char unnamed[] = "unknown"; /* as in sd_listen_fds_with_names(3) */

/* --- the variables --- */

/* A decimal number up to `most`, or -1. */
static long number_of(const char *text, long most)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -1;
	errno = 0;
	long value = strtol(text, &end, 10);
	return errno || *end || value > most ? -1 : value;
}

/* The next of the names between colons. False: it is too long, or there is none. */
static bool next_name(const char **names, char out[STORE_ANY_NAME_MAX])
{
	if (!*names)
		return false;
	size_t n = strcspn(*names, ":");
	if (n >= STORE_ANY_NAME_MAX)
		return false;
	memcpy(out, *names, n);
	out[n] = '\0';
	*names = (*names)[n] == ':' ? *names + n + 1 : NULL;
	return true;
}

int activation_parse(
    const char *pid, const char *fds, const char *names, pid_t self, struct activation *out)
{
	*out = (struct activation){0};
	if (!pid || !fds || !pid[0] || !fds[0])
		return 0;
	long owner = number_of(pid, INT32_MAX), count = number_of(fds, ACTIVATION_MAX);
	if (owner <= 0 || (owner == (long)self && count < 0))
		return -EINVAL;
	if (owner != (long)self || count == 0)
		return 0;
	out->rows = calloc((size_t)count, sizeof(*out->rows));
	if (!out->rows)
		return -ENOMEM;
	bool named = names && names[0];
	for (out->count = 0; out->count < (size_t)count; out->count++) {
		struct activated *row = &out->rows[out->count];
		row->fd = ACTIVATION_FIRST + (int)out->count;
		if (!named)
			memcpy(row->name, unnamed, sizeof(unnamed));
		else if (!next_name(&names, row->name))
			break;
	}
	if (out->count == (size_t)count && (!named || !names))
		return 0;
	free(out->rows);
	*out = (struct activation){0};
	return -EINVAL;
}

int activation_take(struct activation *a, char *why, size_t size)
{
	char *variables[] = {getenv("LISTEN_PID"), getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES")};
	const char *fds = variables[1];
	int error = activation_parse(variables[0], fds, variables[2], getpid(), a);

	if (error)
		snprintf(why, size, "LISTEN_PID, LISTEN_FDS (`%.40s`) and LISTEN_FDNAMES",
		    fds ? fds : "");
	for (size_t i = 0; i < a->count && !error; i++) {
		error = fcntl(a->rows[i].fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
		if (error)
			snprintf(
			    why, size, "descriptor %d, which LISTEN_FDS counts", a->rows[i].fd);
	}
	/* They are for us, not for whom we start. */
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		if (variables[i])
			variables[i][0] = '\0';
	}
	return error;
}

void activation_close(struct activation *a)
{
	for (size_t i = 0; i < a->count; i++) {
		if (a->rows[i].fd >= 0)
			close(a->rows[i].fd);
	}
	free(a->rows);
	*a = (struct activation){0};
}

/* --- what they are --- */

/* The sockets of one address. */
struct group {
	struct sockaddr_storage storage;
	bool activated; /* by a socket unit; else it comes from the store */
	unsigned count;
	int fds[LISTENER_SLOTS];
};

enum { GROUPS_MAX = 2 * (CONFIG_LISTENS_MAX + 1) };

struct heirloom {
	struct supervisor *s;
	const struct config *config;
	struct group groups[GROUPS_MAX];
	size_t count;
	int journal[JOURNAL_COUNT];
};

static bool has(int fd, int option, int wanted)
{
	int value = -1;
	socklen_t length = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
}

static bool is_tcp_listener(int fd, struct sockaddr_storage *storage)
{
	socklen_t length = sizeof(*storage);

	*storage = (struct sockaddr_storage){0};
	return has(fd, SO_ACCEPTCONN, 1) && has(fd, SO_TYPE, SOCK_STREAM) &&
	       has(fd, SO_PROTOCOL, IPPROTO_TCP) &&
	       getsockname(fd, (struct sockaddr *)storage, &length) == 0;
}

static bool is_configured(const struct config *config, const struct sockaddr_storage *storage)
{
	for (size_t i = 0; i < config->listen_count; i++) {
		if (address_equal(&config->listens[i].address.storage, storage))
			return true;
	}
	return config->has_admin && address_equal(&config->admin.address.storage, storage);
}

/* Into the group of its address. False: there is no room, or the others come from elsewhere. */
static bool join_group(
    struct heirloom *h, const struct sockaddr_storage *storage, struct activated *row, bool unit)
{
	struct group *g = NULL;

	for (size_t i = 0; i < h->count && !g; i++) {
		if (address_equal(&h->groups[i].storage, storage))
			g = &h->groups[i];
	}
	if (!g && h->count < GROUPS_MAX) {
		g = &h->groups[h->count++];
		*g = (struct group){.storage = *storage, .activated = unit};
	}
	if (!g || g->activated != unit || g->count == LISTENER_SLOTS)
		return false;
	g->fds[g->count++] = row->fd;
	row->fd = -1;
	return true;
}

/* A socket unit's. An exit code. */
static int take_socket(struct heirloom *h, struct activated *row)
{
	struct sockaddr_storage storage;
	char text[ADDRESS_TEXT_MAX];

	if (!is_tcp_listener(row->fd, &storage)) {
		fprintf(stderr,
		    "margay: descriptor %d (`%s`) of the service manager is no listening TCP "
		    "socket: in the socket unit use ListenStream= with a port, and Accept=no\n",
		    row->fd, row->name);
		return EXIT_CONFIG;
	}
	address_format(&storage, text);
	if (!is_configured(h->config, &storage)) {
		fprintf(stderr,
		    "margay: the service manager listens on %s for Margay (`%s`), but nothing in "
		    "%s does: add `address: \"%s\"` to `listen`, or take it out of the socket "
		    "unit\n",
		    text, row->name, source_name(&h->s->source), text);
		return EXIT_CONFIG;
	}
	if (join_group(h, &storage, row, true))
		return 0;
	fprintf(stderr, "margay: the service manager passes more than %d sockets for %s\n",
	    LISTENER_SLOTS, text);
	return EXIT_CONFIG;
}

/* --- from the store --- */

static bool take_listener(struct heirloom *h, struct activated *row)
{
	struct sockaddr_storage storage;
	char name[STORE_NAME_MAX];

	if (!is_tcp_listener(row->fd, &storage) || !has(row->fd, SO_REUSEPORT, 1))
		return false;
	store_listener_name(&storage, name);
	return strcmp(name, row->name) == 0 && is_configured(h->config, &storage) &&
	       join_group(h, &storage, row, false);
}

static bool take_journal(struct heirloom *h, struct activated *row)
{
	size_t number = (size_t)(row->name[strlen(STORE_JOURNAL)] - '0');
	struct stat status;

	if (number >= JOURNAL_COUNT || row->name[strlen(STORE_JOURNAL) + 1] ||
	    h->journal[number] >= 0 || fstat(row->fd, &status) < 0 || !S_ISREG(status.st_mode) ||
	    (fcntl(row->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return false;
	h->journal[number] = row->fd;
	row->fd = -1;
	return true;
}

static bool take_key(struct heirloom *h, struct activated *row)
{
	uint8_t key[SESSION_KEY_SIZE + 1];

	if (pread(row->fd, key, sizeof(key), 0) != SESSION_KEY_SIZE ||
	    manifest_put(&h->s->heritage.manifest, MANIFEST_SESSION_KEY, 0,
		(struct span){(const char *)key, SESSION_KEY_SIZE}, NULL, 0))
		return false;
	close(row->fd);
	row->fd = -1;
	return true;
}

static const struct {
	const char *name;
	bool begins; /* there is more of it */
	bool (*take)(struct heirloom *h, struct activated *row);
} stored[] = {
    {STORE_LISTENER, true, take_listener},
    {STORE_JOURNAL, true, take_journal},
    {STORE_KEY, false, take_key},
};

static bool is_socket(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static void discard(struct supervisor *s, struct activated *row)
{
	LOG(s->log, LOG_LEVEL_WARN, "of no use in the service manager's store: closed",
	    LOG_STR("name", row->name));
	store_remove(s, row->name);
	close(row->fd);
	row->fd = -1;
}

/* An exit code. */
static int take_row(struct heirloom *h, struct activated *row)
{
	for (size_t i = 0; i < sizeof(stored) / sizeof(stored[0]); i++) {
		size_t n = strlen(stored[i].name);
		if (strncmp(row->name, stored[i].name, stored[i].begins ? n : n + 1) != 0)
			continue;
		if (!stored[i].take(h, row))
			discard(h->s, row);
		return 0;
	}
	if (is_socket(row->fd))
		return take_socket(h, row);
	/* No socket unit makes such: another version stored it. */
	discard(h->s, row);
	return 0;
}

/* --- what becomes of them --- */

/* Put a record whose descriptors are its own from now on. */
static int bequeath(struct heirloom *h, enum manifest_kind kind, uint64_t key, const char *body,
    const int *fds, unsigned count)
{
	struct manifest *m = &h->s->heritage.manifest;
	int error = manifest_put(m, kind, key, span_of(body), fds, count);

	if (!error)
		manifest_find(m, kind, key)->owned = true;
	for (unsigned i = 0; i < count && error; i++)
		close(fds[i]);
	return error;
}

static int bequeath_all(struct heirloom *h)
{
	char text[ADDRESS_TEXT_MAX];
	int error = 0;

	for (size_t i = 0; i < h->count; i++) {
		const struct group *g = &h->groups[i];
		unsigned state = g->activated ? LISTENERS_ACTIVATED : 0;
		address_format(&g->storage, text);
		int failed = bequeath(h, MANIFEST_LISTENER,
		    i | (uint64_t)state << MANIFEST_STATE_SHIFT, text, g->fds, g->count);
		error = error ? error : failed;
	}
	if (h->journal[0] >= 0 && h->journal[1] >= 0) {
		int failed = bequeath(h, MANIFEST_JOURNAL, 0, "", h->journal, JOURNAL_COUNT);
		return error ? error : failed;
	}
	/* Half a journal may be the half that says nothing. */
	for (int i = 0; i < JOURNAL_COUNT; i++) {
		struct activated rest = {.fd = h->journal[i]};
		snprintf(rest.name, sizeof(rest.name), "%s%d", STORE_JOURNAL, i);
		if (rest.fd >= 0)
			discard(h->s, &rest);
	}
	return error;
}

int activation_bequeath(struct supervisor *s, const struct config *config)
{
	struct heirloom h = {.s = s, .config = config, .journal = {-1, -1}};
	int code = 0;

	/* Living processes have all of this. */
	for (size_t i = 0; i < s->activation.count && !s->heritage.alive; i++) {
		int failed = take_row(&h, &s->activation.rows[i]);
		code = code ? code : failed;
	}
	activation_close(&s->activation);
	if (bequeath_all(&h)) {
		fprintf(stderr, "margay: start: out of memory\n");
		return EXIT_FAILED;
	}
	return code;
}

static void warn_left(void *context, unsigned key, unsigned state,
    const struct sockaddr_storage *storage, const int *fds, unsigned count)
{
	const struct supervisor *s = context;
	char text[ADDRESS_TEXT_MAX];

	(void)key;
	(void)fds;
	(void)count;
	if (state != (LISTENERS_LEAVING | LISTENERS_ACTIVATED))
		return;
	address_format(storage, text);
	LOG(s->log, LOG_LEVEL_WARN,
	    "no longer configured, but the service manager listens on it: who connects waits "
	    "until it is taken out of the socket unit",
	    LOG_STR("address", text));
}

void activation_check(const struct supervisor *s)
{
	listeners_each(s->listeners, warn_left, (void *)(uintptr_t)s);
}
