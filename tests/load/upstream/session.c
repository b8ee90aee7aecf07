/* session: see session.h. */
#include "tests/load/upstream/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

int session_create(struct sessions *all, struct session **out)
{
	unsigned char random[SESSION_ID_LENGTH / 2];

	if (HASH_COUNT(all->table) >= all->max)
		return -EAGAIN;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return -errno;
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(s->id + 2 * i, 3, "%02x", random[i]);
	HASH_ADD_KEYPTR(hh, all->table, s->id, SESSION_ID_LENGTH, s);
	*out = s;
	return 0;
}

struct session *session_find(const struct sessions *all, struct span id)
{
	struct session *s = NULL;

	HASH_FIND(hh, all->table, id.p, id.n, s);
	return s;
}

void session_end(struct sessions *all, struct session *s)
{
	if (s->listened)
		LIST_REMOVE(s, link);
	HASH_DEL(all->table, s);
	free(s);
}

void session_listen(struct sessions *all, struct session *s)
{
	if (!s->listened)
		LIST_INSERT_HEAD(&all->listened, s, link);
	s->listened = true;
}

void sessions_tick(struct sessions *all)
{
	struct session *s;

	LIST_FOREACH (s, &all->listened, link)
		s->last++;
}

uint64_t session_next(const struct session *s, uint64_t seen)
{
	uint64_t oldest = s->last > SESSION_KEPT ? s->last - SESSION_KEPT + 1 : 1;

	if (seen == 0 || seen > s->last)
		return s->last + 1;
	return seen + 1 > oldest ? seen + 1 : oldest;
}
