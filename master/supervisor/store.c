/* store: see store.h. What the manager could not take just now is told in the next turn. */
#include "master/supervisor/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "master/supervisor/supervisor.h"

/* systemd hears nobody but the main process; the old master names us as soon as it knows that we
 * serve. */
static const double handed_rest = 2; /* seconds */

/* Listeners come and go. */
static const char *const always[] = {STORE_JOURNAL "0", STORE_JOURNAL "1", STORE_KEY};
_Static_assert(JOURNAL_COUNT == 2, "each journal has a name");

void store_listener_name(const struct sockaddr_storage *storage, char name[STORE_NAME_MAX])
{
	char text[ADDRESS_TEXT_MAX];

	address_format(storage, text);
	snprintf(name, STORE_NAME_MAX, "%s%s", STORE_LISTENER, text);
	for (char *colon = name; (colon = strchr(colon, ':'));)
		*colon = '-';
}

static struct store_row *row_find(struct store *t, const char *name)
{
	for (size_t i = 0; i < t->count; i++) {
		if (strcmp(t->rows[i].name, name) == 0)
			return &t->rows[i];
	}
	return NULL;
}

/* NULL: there is no room. */
static struct store_row *row_add(struct store *t, const char *name)
{
	struct store_row *row = row_find(t, name);

	if (row || t->count == STORE_ROWS)
		return row;
	row = &t->rows[t->count++];
	*row = (struct store_row){.told = false};
	snprintf(row->name, sizeof(row->name), "%s", name);
	return row;
}

static void know_listener(void *context, unsigned key, unsigned state,
    const struct sockaddr_storage *storage, const int *fds, unsigned count)
{
	char name[STORE_NAME_MAX];

	(void)key;
	(void)fds;
	(void)count;
	store_listener_name(storage, name);
	if (!state)
		row_add(context, name);
}

void store_know(struct supervisor *s)
{
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		row_add(&s->store, always[i]);
	listeners_each(s->listeners, know_listener, &s->store);
	s->store.handed = true;
}

/* What is not worth another try: the manager does not want it. */
static bool is_over(int error)
{
	return error != -EAGAIN && error != -ETOOMANYREFS && error != -ENOBUFS;
}

static void put(struct supervisor *s, const char *name, const int *fds, unsigned count)
{
	struct store_row *row = row_add(&s->store, name);
	char text[64 + STORE_NAME_MAX];

	if (!row)
		return;
	row->wanted = true;
	if (row->told)
		return;
	/* Nobody needs to be told that a listener was shut down: FDPOLL=0. */
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	row->told = is_over(notify_pass(&s->notify, text, fds, count));
}

static int tell_removed(struct supervisor *s, const char *name)
{
	char text[64 + STORE_ANY_NAME_MAX];

	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return notify_pass(&s->notify, text, NULL, 0);
}

void store_remove(struct supervisor *s, const char *name)
{
	struct store_row *row = row_find(&s->store, name);

	if (is_over(tell_removed(s, name)) && row)
		*row = s->store.rows[--s->store.count];
}

/* The key in a sealed memfd: so it can be handed on. -1: there is no room. */
static int key_file(const struct supervisor *s)
{
	int fd = memfd_create("margay-session-key", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (pwrite(fd, s->session_key, sizeof(s->session_key), 0) !=
			       (ssize_t)sizeof(s->session_key) ||
			   fcntl(fd, F_ADD_SEALS,
			       F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void put_key(struct supervisor *s)
{
	struct store_row *row = row_add(&s->store, STORE_KEY);
	int fd = row && !row->told ? key_file(s) : -1;

	if (row)
		row->wanted = true;
	if (fd < 0)
		return;
	put(s, STORE_KEY, &fd, 1);
	close(fd);
}

static void put_listener(void *context, unsigned key, unsigned state,
    const struct sockaddr_storage *storage, const int *fds, unsigned count)
{
	char name[STORE_NAME_MAX];

	(void)key;
	if (state)
		return; /* it goes, or the manager has it anyway */
	store_listener_name(storage, name);
	put(context, name, fds, count);
}

static bool may_tell(struct supervisor *s)
{
	struct store *t = &s->store;

	if (s->notify.fd < 0)
		return false;
	if (t->handed) {
		t->handed = false;
		t->rests_until = clock_coarse() + handed_rest;
	}
	return clock_coarse() >= t->rests_until;
}

void store_update(struct supervisor *s)
{
	struct store *t = &s->store;

	if (!may_tell(s))
		return;
	for (size_t i = 0; i < t->count; i++)
		t->rows[i].wanted = false;
	for (int i = 0; i < JOURNAL_COUNT; i++)
		put(s, always[i], &s->journal[i], 1);
	put_key(s);
	listeners_each(s->listeners, put_listener, s);
	for (size_t i = t->count; i-- > 0;) {
		if (!t->rows[i].wanted)
			store_remove(s, t->rows[i].name);
	}
}

void store_clear(struct supervisor *s)
{
	struct store *t = &s->store;

	for (size_t i = 0; i < t->count; i++)
		tell_removed(s, t->rows[i].name);
	t->count = 0;
}
