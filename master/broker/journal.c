/* journal: see journal.h. A file is a header and records, each {crc, length, type, 0, payload} in
 * host order; the checksum covers everything behind itself. */
#include "master/broker/journal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum journal_type { JOURNAL_CREATE = 1, JOURNAL_END };
enum { JOURNAL_VERSION = 2, JOURNAL_PAYLOAD_MAX = SESSION_STATE_MAX + 1024 };

static const uint64_t journal_magic = 0x6c6e726a79617267;

struct journal_header {
	uint64_t magic;
	uint64_t sequence;
	uint32_t version;
	uint32_t crc; /* of the fields above */
};

struct journal_record {
	uint32_t crc;
	uint16_t length; /* of the payload */
	uint8_t type;
	uint8_t zero;
};

_Static_assert(sizeof(struct journal_header) == 24, "no padding in the file");
_Static_assert(sizeof(struct journal_record) == 8, "no padding in the file");

/* CRC32C (Castagnoli, reflected 0x1edc6f41) four bits at a time: 64 bytes of table. */
static uint32_t crc32c(const void *bytes, size_t n)
{
	static const uint32_t nibbles[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
	    0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6,
	    0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
	const uint8_t *p = bytes;
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		crc = crc >> 4 ^ nibbles[crc & 15];
		crc = crc >> 4 ^ nibbles[crc & 15];
	}
	return ~crc;
}

static int journal_pwrite(int fd, const void *bytes, size_t n, size_t offset)
{
	ssize_t written;

	do
		written = pwrite(fd, bytes, n, (off_t)offset);
	while (written < 0 && errno == EINTR);
	if (written == (ssize_t)n)
		return 0;
	int error = written < 0 ? -errno : -ENOSPC;
	/* Half a record must not lie behind the ones that follow. */
	if (ftruncate(fd, (off_t)offset) < 0)
		return -errno;
	return error;
}

static int journal_header_write(int fd, uint64_t sequence)
{
	struct journal_header h = {
	    .magic = journal_magic, .sequence = sequence, .version = JOURNAL_VERSION};

	h.crc = crc32c(&h, offsetof(struct journal_header, crc));
	return journal_pwrite(fd, &h, sizeof(h), 0);
}

/* The sequence number of a file, 0 when it has no valid header. */
static uint64_t journal_header_read(int fd)
{
	struct journal_header h;

	if (pread(fd, &h, sizeof(h), 0) != sizeof(h) || h.magic != journal_magic ||
	    h.version != JOURNAL_VERSION ||
	    h.crc != crc32c(&h, offsetof(struct journal_header, crc)))
		return 0;
	return h.sequence;
}

/* Append one record at *offset and move it on. */
static int journal_append(
    int fd, size_t *offset, enum journal_type type, const void *payload, size_t n)
{
	char bytes[sizeof(struct journal_record) + JOURNAL_PAYLOAD_MAX];
	struct journal_record r = {.length = (uint16_t)n, .type = (uint8_t)type};

	if (n > JOURNAL_PAYLOAD_MAX)
		return -EMSGSIZE;
	memcpy(bytes, &r, sizeof(r));
	memcpy(bytes + sizeof(r), payload, n);
	r.crc = crc32c(bytes + sizeof(r.crc), sizeof(r) - sizeof(r.crc) + n);
	memcpy(bytes, &r, sizeof(r.crc));
	int error = journal_pwrite(fd, bytes, sizeof(r) + n, *offset);
	if (!error)
		*offset += sizeof(r) + n;
	return error;
}

/* Apply one checked payload to the table. -EPROTO when it says nothing known. */
static int journal_apply(struct table *t, uint8_t type, struct wire_reader *r, double now)
{
	struct session_record record;
	struct session_id id;
	struct session *s;

	if (type == JOURNAL_END) {
		wire_get_bytes(r, id.bytes, sizeof(id.bytes));
		if (!wire_complete(r))
			return -EPROTO;
		s = table_find(t, &id);
		if (s)
			table_remove(t, s);
		return 0;
	}
	if (type != JOURNAL_CREATE || !session_record_get(r, &record) || !wire_complete(r))
		return -EPROTO;
	s = table_find(t, &record.id);
	if (s)
		table_remove(t, s);
	int error = table_add(t, &record, now, &s);
	if (error)
		return error;
	s->cached = UINT64_MAX; /* who caches what died with the broker before us */
	return 0;
}

/* Replay records until one is bad; *offset is where the good ones end. 0 or -ENOMEM. */
static int journal_replay(
    const char *file, size_t size, struct table *t, double now, size_t *offset)
{
	struct journal_record r;

	*offset = sizeof(struct journal_header);
	while (size - *offset >= sizeof(r)) {
		const char *at = file + *offset;
		memcpy(&r, at, sizeof(r));
		size_t n = sizeof(r) + r.length;
		if (r.zero != 0 || r.length > JOURNAL_PAYLOAD_MAX || n > size - *offset ||
		    r.crc != crc32c(at + sizeof(r.crc), n - sizeof(r.crc)))
			return 0;
		struct wire_reader reader = {.p = at + sizeof(r), .length = r.length};
		int error = journal_apply(t, r.type, &reader, now);
		if (error)
			return error == -EPROTO ? 0 : error;
		*offset += n;
	}
	return 0;
}

static int journal_load(struct journal *j, struct table *t, double now)
{
	int fd = j->fds[j->active];
	struct stat status;

	if (fstat(fd, &status) < 0)
		return -errno;
	size_t size = (size_t)status.st_size;
	char *file = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (file == MAP_FAILED)
		return -errno;
	int error = journal_replay(file, size, t, now, &j->offset);
	munmap(file, size);
	if (error)
		return error;
	return ftruncate(fd, (off_t)j->offset) < 0 ? -errno : 0;
}

int journal_open(struct journal *j, const int fds[JOURNAL_COUNT], struct table *t, double now)
{
	uint64_t sequences[JOURNAL_COUNT];

	*j = (struct journal){.offset = sizeof(struct journal_header)};
	for (size_t i = 0; i < JOURNAL_COUNT; i++) {
		j->fds[i] = fds[i];
		sequences[i] = journal_header_read(fds[i]);
	}
	j->active = sequences[1] > sequences[0];
	j->sequence = sequences[j->active];
	if (ftruncate(j->fds[!j->active], 0) < 0)
		return -errno;
	if (j->sequence > 0)
		return journal_load(j, t, now);
	j->sequence = 1;
	if (ftruncate(j->fds[j->active], 0) < 0)
		return -errno;
	return journal_header_write(j->fds[j->active], j->sequence);
}

int journal_create(struct journal *j, struct session *s)
{
	int error =
	    journal_append(j->fds[j->active], &j->offset, JOURNAL_CREATE, s->record, s->length);

	/* Sessions are in order of insertion: a cursor before the end will come by. */
	if (!error && j->compacting && !j->cursor)
		j->cursor = s;
	return error;
}

/* Give up a compaction that cannot be finished; the active file is whole. */
static void journal_abandon(struct journal *j)
{
	j->compacting = false;
	j->cursor = NULL;
	/* Without a header the other file counts for nothing, so a failure here costs memory only.
	 */
	if (ftruncate(j->fds[!j->active], 0) < 0)
		return;
}

void journal_forget(struct journal *j, const struct session *s)
{
	if (j->cursor == s)
		j->cursor = s->hh.next;
}

int journal_end(struct journal *j, const struct session *s)
{
	journal_forget(j, s);
	int error =
	    journal_append(j->fds[j->active], &j->offset, JOURNAL_END, s->record, SESSION_ID_BYTES);
	if (j->compacting && journal_append(j->fds[!j->active], &j->copy_offset, JOURNAL_END,
				 s->record, SESSION_ID_BYTES) != 0)
		journal_abandon(j);
	return error;
}

static bool journal_worth_compacting(const struct journal *j, const struct table *t)
{
	size_t live = t->bytes + table_count(t) * sizeof(struct journal_record);

	return j->offset > JOURNAL_COMPACT_FROM && j->offset / 2 > live;
}

/* All is copied: a valid header makes the copy the journal. */
static void journal_switch(struct journal *j)
{
	size_t old = j->active;

	if (journal_header_write(j->fds[!old], j->sequence + 1) != 0) {
		journal_abandon(j);
		return;
	}
	j->sequence++;
	j->active = !old;
	j->offset = j->copy_offset;
	j->compacting = false;
	/* The lower sequence loses anyway; the next compaction or replay truncates it again. */
	if (ftruncate(j->fds[old], 0) < 0)
		return;
}

bool journal_compact(struct journal *j, const struct table *t)
{
	if (!j->compacting) {
		if (!journal_worth_compacting(j, t) || ftruncate(j->fds[!j->active], 0) < 0)
			return false;
		j->compacting = true;
		j->cursor = t->by_id;
		j->copy_offset = sizeof(struct journal_header);
	}
	size_t until = j->copy_offset + JOURNAL_STEP;
	for (; j->cursor && j->copy_offset < until; j->cursor = j->cursor->hh.next) {
		if (journal_append(j->fds[!j->active], &j->copy_offset, JOURNAL_CREATE,
			j->cursor->record, j->cursor->length) != 0) {
			journal_abandon(j);
			return false;
		}
	}
	if (j->cursor)
		return true;
	journal_switch(j);
	return false;
}
