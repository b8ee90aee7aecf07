/* handover: see handover.h. */
#include "common/handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ipc/channel.h"

static const size_t records_max = (size_t)1 << 30;

/* Before each record. All of it is a multiple of 8 bytes long. */
struct preamble {
	uint32_t length; /* of head, lengths and texts, filled up */
	uint16_t type;
	uint16_t count;
	uint32_t head;
	uint32_t reserved;
};

static void append(struct handover *h, const void *p, size_t n)
{
	if (!h->failed && buffer_append(&h->records, p, n, records_max))
		h->failed = true;
}

void handover_put(struct handover *h, uint16_t type, const void *head, size_t head_size,
    const struct span *texts, unsigned count)
{
	static const char nothing[8];
	struct preamble preamble = {.type = type, .count = (uint16_t)count};
	size_t length = head_size;

	for (unsigned i = 0; i < count; i++)
		length += sizeof(uint32_t) + texts[i].n;
	size_t fill = -length % 8;
	if (length + fill > records_max) {
		h->failed = true;
		return;
	}
	preamble.length = (uint32_t)(length + fill);
	preamble.head = (uint32_t)head_size;
	append(h, &preamble, sizeof(preamble));
	append(h, head, head_size);
	for (unsigned i = 0; i < count; i++) {
		uint32_t n = (uint32_t)texts[i].n;
		append(h, &n, sizeof(n));
		append(h, texts[i].p, texts[i].n);
	}
	append(h, nothing, fill);
}

int32_t handover_fd(struct handover *h, int fd)
{
	if (fd < 0)
		return -1;
	if (h->count == h->capacity) {
		unsigned capacity = h->capacity + 64;
		int *fds = realloc(h->fds, capacity * sizeof(*fds));
		if (!fds) {
			h->failed = true;
			return -1;
		}
		h->fds = fds;
		h->capacity = capacity;
	}
	h->fds[h->count] = fd;
	return (int32_t)h->count++;
}

void handover_release(struct handover *h)
{
	buffer_release(&h->records);
	free(h->fds);
	*h = (struct handover){0};
}

static int write_all(int fd, struct span text)
{
	while (text.n > 0) {
		ssize_t n = write(fd, text.p, text.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		text.p += n;
		text.n -= (size_t)n;
	}
	return 0;
}

static int leave_fds(const struct handover *h, int channel)
{
	int error = 0;

	for (unsigned i = 0; i < h->count && !error; i += FRAME_FDS_MAX) {
		struct frame frame = {
		    .type = CHANNEL_LEAVE, .target = HANDOVER_TEXT + 1 + i / FRAME_FDS_MAX};
		unsigned count = h->count - i < FRAME_FDS_MAX ? h->count - i : FRAME_FDS_MAX;
		error = frame_send_fds(channel, &frame, NULL, h->fds + i, count);
	}
	return error;
}

int handover_leave(struct handover *h, int channel)
{
	struct frame frame = {.type = CHANNEL_LEAVE, .target = HANDOVER_TEXT};

	if (h->failed)
		return -ENOMEM;
	int fd = memfd_create("margay-handover", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = write_all(fd, buffer_span(&h->records));
	if (!error)
		error = leave_fds(h, channel);
	if (!error)
		error = frame_send(channel, &frame, NULL, fd);
	close(fd);
	return error;
}

/* --- taking over
 * ------------------------------------------------------------------------------------ */

static struct vault_entry *entry_of(const struct vault *left, uint64_t key)
{
	for (size_t i = 0; left && i < left->count; i++) {
		if (left->rows[i].key == key)
			return &left->rows[i];
	}
	return NULL;
}

bool handover_complete(const struct vault *left)
{
	const struct vault_entry *text = entry_of(left, HANDOVER_TEXT);

	return text && text->count == 1;
}

bool handover_open(struct handover_reader *r, struct vault *left)
{
	struct stat status = {0};
	void *p = MAP_FAILED;

	*r = (struct handover_reader){.left = left};
	if (!left)
		return false;
	int fd = handover_complete(left) ? entry_of(left, HANDOVER_TEXT)->fds[0] : -1;
	if (fd >= 0 && fstat(fd, &status) == 0 && status.st_size > 0)
		p = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) {
		vault_close(left);
		return false;
	}
	r->all = r->rest = (struct span){p, (size_t)status.st_size};
	return true;
}

bool handover_next(struct handover_reader *r, struct handover_record *record)
{
	struct preamble preamble;

	if (r->rest.n < sizeof(preamble))
		return false;
	memcpy(&preamble, r->rest.p, sizeof(preamble));
	const char *at = r->rest.p + sizeof(preamble);
	size_t left = preamble.length;
	if (left > r->rest.n - sizeof(preamble) || preamble.head > left)
		return false;
	r->rest = (struct span){at + left, r->rest.n - sizeof(preamble) - left};
	*record = (struct handover_record){.type = preamble.type, .head = {at, preamble.head}};
	at += preamble.head;
	left -= preamble.head;
	for (unsigned i = 0; i < preamble.count && i < HANDOVER_TEXTS_MAX; i++) {
		uint32_t n;
		if (left < sizeof(n))
			return false;
		memcpy(&n, at, sizeof(n));
		left -= sizeof(n);
		at += sizeof(n);
		if (n > left)
			return false;
		record->texts[record->count++] = (struct span){at, n};
		at += n;
		left -= n;
	}
	return true;
}

void handover_head(const struct handover_record *record, void *head, size_t size)
{
	memset(head, 0, size);
	memcpy(head, record->head.p, record->head.n < size ? record->head.n : size);
}

int handover_take(const struct handover_reader *r, int32_t number)
{
	struct vault_entry *entry;
	unsigned at = (unsigned)number % FRAME_FDS_MAX;

	if (number < 0)
		return -1;
	entry = entry_of(r->left, HANDOVER_TEXT + 1 + (uint64_t)number / FRAME_FDS_MAX);
	if (!entry || at >= entry->count)
		return -1;
	int fd = entry->fds[at];
	entry->fds[at] = -1;
	return fd;
}

void handover_close(struct handover_reader *r)
{
	munmap((void *)(uintptr_t)r->all.p, r->all.n);
	vault_close(r->left);
	*r = (struct handover_reader){0};
}
