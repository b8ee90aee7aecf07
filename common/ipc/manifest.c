/* manifest: see manifest.h. */
#include "common/ipc/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Room for one more row. NULL when memory is short. */
static void *grown(void *rows, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return rows;
	size_t wanted = *capacity > 0 ? 2 * *capacity : 64;
	void *more = realloc(rows, wanted * size);
	if (more)
		*capacity = wanted;
	return more;
}

static void close_fds(const int *fds, unsigned count)
{
	while (count > 0) {
		if (fds[--count] >= 0)
			close(fds[count]);
	}
}

static void record_empty(struct manifest_record *r)
{
	if (r->owned)
		close_fds(r->fds, r->count);
	free(r->body);
	r->body = NULL;
	r->count = 0;
	r->length = 0;
}

struct manifest_record *manifest_find(
    const struct manifest *m, enum manifest_kind kind, uint64_t key)
{
	for (size_t i = 0; i < m->count; i++) {
		if (m->rows[i].kind == kind && m->rows[i].key == key)
			return &m->rows[i];
	}
	return NULL;
}

static struct manifest_record *add(struct manifest *m, enum manifest_kind kind, uint64_t key)
{
	struct manifest_record *rows =
	    grown(m->rows, m->count, &m->capacity, sizeof(struct manifest_record));

	if (!rows)
		return NULL;
	m->rows = rows;
	struct manifest_record *r = &m->rows[m->count++];
	*r = (struct manifest_record){.kind = (uint8_t)kind, .key = key};
	return r;
}

static bool is_same(
    const struct manifest_record *r, struct span body, const int *fds, unsigned count)
{
	return r->length == body.n && memcmp(r->body, body.p, body.n) == 0 && r->count == count &&
	       (count == 0 || memcmp(r->fds, fds, count * sizeof(*fds)) == 0);
}

static struct manifest_record *put(struct manifest *m, enum manifest_kind kind, uint64_t key,
    struct span body, const int *fds, unsigned count)
{
	struct manifest_record *r = manifest_find(m, kind, key);

	if (r && is_same(r, body, fds, count)) {
		r->stale = false;
		return r;
	}
	char *copy = malloc(body.n + 1);
	if (copy && !r)
		r = add(m, kind, key);
	if (!copy || !r) {
		free(copy);
		return NULL;
	}
	record_empty(r);
	if (body.n > 0)
		memcpy(copy, body.p, body.n);
	copy[body.n] = '\0';
	r->body = copy;
	r->length = body.n;
	r->count = count;
	if (count > 0)
		memcpy(r->fds, fds, count * sizeof(*fds));
	r->told = 0;
	r->stale = false;
	m->ended = 0;
	return r;
}

int manifest_put(struct manifest *m, enum manifest_kind kind, uint64_t key, struct span body,
    const int *fds, unsigned count)
{
	if (body.n > MANIFEST_BODY_MAX || count > FRAME_FDS_MAX)
		return -EMSGSIZE;
	if (put(m, kind, key, body, fds, count))
		return 0;
	manifest_drop(m, kind, key);
	return -ENOMEM;
}

void manifest_begin(struct manifest *m)
{
	for (size_t i = 0; i < m->count; i++)
		m->rows[i].stale = m->rows[i].kind != MANIFEST_CHILD;
}

void manifest_sweep(struct manifest *m)
{
	for (size_t i = 0; i < m->count;) {
		if (m->rows[i].stale)
			manifest_drop(m, m->rows[i].kind, m->rows[i].key);
		else
			i++;
	}
}

/* Who has it is to be told that it is gone. */
static void note_drop(struct manifest *m, const struct manifest_record *r)
{
	if (!r->held)
		return;
	struct manifest_drop *drops =
	    grown(m->drops, m->drop_count, &m->drop_capacity, sizeof(struct manifest_drop));

	if (!drops)
		return; /* they keep a descriptor too many, until they are told all anew */
	m->drops = drops;
	m->drops[m->drop_count++] =
	    (struct manifest_drop){.kind = r->kind, .untold = r->held, .key = r->key};
}

void manifest_drop(struct manifest *m, enum manifest_kind kind, uint64_t key)
{
	struct manifest_record *r = manifest_find(m, kind, key);

	if (!r)
		return;
	note_drop(m, r);
	m->ended = 0;
	record_empty(r);
	*r = m->rows[--m->count];
}

int manifest_steal(struct manifest_record *r, unsigned i)
{
	int fd = r->fds[i];

	r->fds[i] = -1;
	return fd;
}

void manifest_steal_all(struct manifest_record *r)
{
	for (unsigned i = 0; i < r->count; i++)
		r->fds[i] = -1;
}

void manifest_close(struct manifest *m)
{
	for (size_t i = 0; i < m->count; i++)
		record_empty(&m->rows[i]);
	free(m->rows);
	free(m->drops);
	*m = (struct manifest){0};
}

/* Forget the drops that everybody knows of. */
static void drops_settle(struct manifest *m, enum manifest_reader reader)
{
	size_t left = 0;

	for (size_t i = 0; i < m->drop_count; i++) {
		m->drops[i].untold &= (uint8_t)~reader;
		if (m->drops[i].untold)
			m->drops[left++] = m->drops[i];
	}
	m->drop_count = left;
}

void manifest_unread(struct manifest *m, enum manifest_reader reader)
{
	for (size_t i = 0; i < m->count; i++) {
		m->rows[i].told &= (uint8_t)~reader;
		m->rows[i].held &= (uint8_t)~reader;
	}
	drops_settle(m, reader);
	m->anew |= (uint8_t)reader;
	m->ended &= (uint8_t)~reader;
}

void manifest_reopen(struct manifest *m, enum manifest_reader reader)
{
	m->ended &= (uint8_t)~reader;
}

static int tell_anew(struct manifest *m, enum manifest_reader reader, int socket)
{
	struct frame frame = {.type = MANIFEST_ANEW};
	int error = m->anew & reader ? frame_send(socket, &frame, NULL, -1) : 0;

	if (!error)
		m->anew &= (uint8_t)~reader;
	return error;
}

static int tell_drops(struct manifest *m, enum manifest_reader reader, int socket)
{
	for (size_t i = 0; i < m->drop_count; i++) {
		struct manifest_drop *d = &m->drops[i];
		struct frame frame = {.type = MANIFEST_DROP, .length = 1, .target = d->key};
		if (!(d->untold & reader))
			continue;
		int error = frame_send(socket, &frame, &d->kind, -1);
		if (error)
			return error;
		d->untold &= (uint8_t)~reader;
	}
	drops_settle(m, reader);
	return 0;
}

static int tell_end(const struct manifest *m, int socket)
{
	uint32_t end[] = {MARGAY_MANIFEST_VERSION, (uint32_t)m->count};
	struct frame frame = {.type = MANIFEST_END, .length = sizeof(end)};

	return frame_send(socket, &frame, end, -1);
}

int manifest_tell(struct manifest *m, enum manifest_reader reader, int socket)
{
	char payload[1 + MANIFEST_BODY_MAX];

	if (m->ended & reader)
		return 0;
	int error = tell_anew(m, reader, socket);
	if (!error)
		error = tell_drops(m, reader, socket);
	for (size_t i = 0; i < m->count && !error; i++) {
		struct manifest_record *r = &m->rows[i];
		struct frame frame = {
		    .type = MANIFEST_PUT, .length = (uint32_t)(1 + r->length), .target = r->key};
		if (r->told & reader)
			continue;
		payload[0] = (char)r->kind;
		memcpy(payload + 1, r->body, r->length);
		error = frame_send_fds(socket, &frame, payload, r->fds, r->count);
		if (error)
			break;
		r->told |= (uint8_t)reader;
		r->held |= (uint8_t)reader;
	}
	if (!error)
		error = tell_end(m, socket);
	if (!error)
		m->ended |= (uint8_t)reader;
	return error;
}

static int take_end(const struct manifest *m, const struct frame *frame, const char *payload)
{
	uint32_t end[2];

	if (frame->length < sizeof(end[0]))
		return -EPROTO;
	memcpy(end, payload, frame->length < sizeof(end) ? sizeof(end[0]) : sizeof(end));
	if (end[0] != MARGAY_MANIFEST_VERSION)
		return -EBADMSG;
	return frame->length == sizeof(end) && end[1] == m->count ? 1 : -EPROTO;
}

int manifest_take(struct manifest *m, const struct frame *frame, const char *payload,
    const int *fds, unsigned count)
{
	uint8_t kind = frame->length > 0 ? (uint8_t)payload[0] : 0;

	if (frame->type == MANIFEST_PUT && frame->length > 0 &&
	    frame->length <= 1 + MANIFEST_BODY_MAX) {
		struct span body = {payload + 1, frame->length - 1};
		struct manifest_record *r = put(m, kind, frame->target, body, fds, count);
		if (r) {
			r->owned = true;
			return 0;
		}
		close_fds(fds, count);
		return -ENOMEM;
	}
	close_fds(fds, count);
	if (frame->type == MANIFEST_ANEW) {
		manifest_close(m);
		return 0;
	}
	if (frame->type == MANIFEST_DROP && frame->length == 1) {
		manifest_drop(m, kind, frame->target);
		return 0;
	}
	return frame->type == MANIFEST_END ? take_end(m, frame, payload) : -EPROTO;
}
