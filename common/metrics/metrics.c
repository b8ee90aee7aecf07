/* metrics: see metrics.h for the rules and segment.h for the memory. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/metrics/segment.h"
#include "common/procfs.h"

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "counters must not need a lock");

enum { METRICS_MAGIC = 0x4d47594d };

const struct metric_row metric_rows[METRIC_ID_COUNT] = {
#define METRIC(id, kind, name, help, a, b, c) \
	[M_##id] = {name, help, kind, {a, b, c}, METRIC_SHAPE(id)},
#include "common/metrics/metrics.def"
#undef METRIC
};

static size_t aligned(size_t n)
{
	return (n + SLOT_ALIGNMENT - 1) / SLOT_ALIGNMENT * SLOT_ALIGNMENT;
}

struct metrics_slot *metrics_slot_at(const struct metrics *m, int slot)
{
	char *base = (char *)m->header + aligned(sizeof(struct metrics_header));

	return (struct metrics_slot *)(void *)(base + (size_t)slot * m->header->slot_stride);
}

static size_t segment_size(void)
{
	return aligned(sizeof(struct metrics_header)) +
	       METRIC_SLOTS * aligned(sizeof(struct metrics_slot));
}

/* FNV-1a over names, kinds and places of all metrics. */
static uint32_t layout_checksum(void)
{
	uint32_t sum = 2166136261u;

	for (size_t id = 0; id < METRIC_ID_COUNT; id++) {
		const struct metric_row *row = &metric_rows[id];
		for (const char *p = row->name; *p; p++)
			sum = (sum ^ (uint8_t)*p) * 16777619u;
		const struct metric_shape *shape = &row->shape;
		const uint32_t numbers[] = {(uint32_t)row->kind, shape->base, shape->width,
		    shape->sizes[0], shape->sizes[1], shape->sizes[2]};
		for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
			sum = (sum ^ numbers[i]) * 16777619u;
	}
	return sum;
}

int metrics_create(struct metrics **out)
{
	size_t stride = aligned(sizeof(struct metrics_slot));
	size_t size = segment_size();
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->size = size;
	m->fd = memfd_create("margay-metrics", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0 || ftruncate(m->fd, (off_t)size) < 0 ||
	    fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		goto failed;
	m->header = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (m->header == MAP_FAILED)
		goto failed;
	m->header->magic = METRICS_MAGIC;
	m->header->version = METRICS_LAYOUT_VERSION;
	m->header->slot_stride = stride;
	m->header->slots = METRIC_SLOTS;
	m->header->names = layout_checksum();
	*out = m;
	return 0;
failed:;
	int error = -errno;
	if (m->fd >= 0)
		close(m->fd);
	free(m);
	return error;
}

int metrics_adopt(int fd, struct metrics **out)
{
	size_t size = segment_size();
	struct metrics *m = calloc(1, sizeof(*m));
	struct stat status;

	if (!m)
		return -ENOMEM;
	m->fd = fd;
	m->size = size;
	m->header = MAP_FAILED;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &status) == 0 &&
	    (size_t)status.st_size == size)
		m->header = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m->header != MAP_FAILED && m->header->magic == METRICS_MAGIC &&
	    m->header->version == METRICS_LAYOUT_VERSION &&
	    m->header->slot_stride == aligned(sizeof(struct metrics_slot)) &&
	    m->header->slots == METRIC_SLOTS && m->header->names == layout_checksum()) {
		*out = m;
		return 0;
	}
	if (m->header != MAP_FAILED)
		munmap(m->header, size);
	free(m);
	return -EINVAL;
}

void metrics_close(struct metrics *m)
{
	munmap(m->header, m->size);
	close(m->fd);
	free(m);
}

int metrics_fd(const struct metrics *m)
{
	return m->fd;
}

/* Row of that text, counted from 1; 0 when it is not there. */
static unsigned label_find(const struct metrics_labels *labels, const char *text)
{
	unsigned count = atomic_load_explicit(&labels->count, memory_order_acquire);

	for (unsigned i = 1; i <= count; i++) {
		if (strcmp(labels->rows[i], text) == 0)
			return i;
	}
	return 0;
}

static void label_add(struct metrics_labels *labels, const char *text)
{
	unsigned count = atomic_load_explicit(&labels->count, memory_order_relaxed);
	size_t n = strlen(text);

	if (n >= METRICS_LABEL_MAX || count + 1 >= SIZE_DIM_ROUTE || label_find(labels, text))
		return;
	memcpy(labels->rows[count + 1], text, n + 1);
	atomic_store_explicit(&labels->count, count + 1, memory_order_release);
}

void metrics_label(struct metrics *m, const struct config *config)
{
	for (size_t i = 0; i < config->route_count; i++)
		label_add(&m->header->routes, config->routes[i].path);
	for (size_t i = 0; i < config->upstream_count; i++)
		label_add(&m->header->upstreams, config->upstreams[i].name);
}

unsigned metrics_route_id(const struct metrics *m, const char *path)
{
	return label_find(&m->header->routes, path);
}

unsigned metrics_upstream_id(const struct metrics *m, const char *name)
{
	return label_find(&m->header->upstreams, name);
}

/* How well a free slot suits: one that this holder had before, then one that nobody had, then any.
 */
static int slot_rank(const struct metrics_slot *s, enum metric_slot_kind kind, unsigned number)
{
	if (s->kind != METRIC_SLOT_FREE)
		return 0;
	if (s->used && s->last_kind == kind && s->last_number == number)
		return 3;
	return s->used ? 1 : 2;
}

int metrics_slot_take(
    struct metrics *m, enum metric_slot_kind kind, unsigned number, unsigned generation)
{
	int best = -EBUSY, best_rank = 0;

	for (int i = 0; i < METRIC_SLOTS; i++) {
		int rank = slot_rank(metrics_slot_at(m, i), kind, number);
		if (rank > best_rank) {
			best = i;
			best_rank = rank;
		}
	}
	if (best < 0)
		return best;
	struct metrics_slot *s = metrics_slot_at(m, best);
	uint32_t free_kind = METRIC_SLOT_FREE;
	/* During an upgrade two masters give slots away. */
	if (!atomic_compare_exchange_strong(&s->kind, &free_kind, kind))
		return metrics_slot_take(m, kind, number, generation);
	s->last_kind = kind;
	s->last_number = number;
	s->number = number;
	s->generation = generation;
	s->pid = getpid(); /* until its process opens it */
	s->heartbeat = 0;
	s->used = 1;
	return best;
}

void metrics_slot_reaped(struct metrics *m, int slot)
{
	struct metrics_slot *s = metrics_slot_at(m, slot);

	for (size_t id = 0; id < METRIC_ID_COUNT; id++) {
		const struct metric_shape *shape = &metric_rows[id].shape;
		if (metric_rows[id].kind != METRIC_GAUGE)
			continue;
		uint32_t count = shape->sizes[0] * shape->sizes[1] * shape->sizes[2];
		for (uint32_t i = 0; i < count; i++)
			metric_cell_set(s, shape->base + i, 0);
	}
	s->pid = 0;
	s->kind = METRIC_SLOT_FREE;
}

static bool is_gone(pid_t pid)
{
	struct procfs_stat stat;
	int error = procfs_stat(pid, &stat);

	return error == -ENOENT || (!error && (stat.state == 'Z' || stat.state == 'X'));
}

void metrics_reap_gone(struct metrics *m)
{
	for (int i = 0; i < METRIC_SLOTS; i++) {
		const struct metrics_slot *s = metrics_slot_at(m, i);
		if (s->kind != METRIC_SLOT_FREE && s->pid > 0 && is_gone(s->pid))
			metrics_slot_reaped(m, i);
	}
}

struct metrics_slot *metrics_slot_open(struct metrics *m, int slot, int32_t pid)
{
	struct metrics_slot *s = metrics_slot_at(m, slot);

	s->pid = pid;
	return s;
}

void metrics_heartbeat(struct metrics_slot *slot, uint64_t monotonic_nanoseconds)
{
	atomic_store_explicit(&slot->heartbeat, monotonic_nanoseconds, memory_order_relaxed);
}

void metric_count(struct metrics_slot *slot, enum metric_id id)
{
	metric_cell_add(slot, metric_rows[id].shape.base, 1);
}

uint64_t metrics_slot_value(
    const struct metrics *m, int slot, enum metric_id id, struct metric_at at)
{
	const struct metric_row *row = &metric_rows[id];
	const struct metrics_slot *s = metrics_slot_at(m, slot);
	uint32_t base = metric_cell(&row->shape, at);
	uint32_t cells = row->kind == METRIC_HISTOGRAM ? HISTOGRAM_CELLS : 1;
	uint64_t sum = 0;

	if (!s->used)
		return 0;
	for (uint32_t i = 0; i < cells; i++)
		sum += atomic_load_explicit(&s->cells[base + i], memory_order_relaxed);
	return sum;
}

uint64_t metrics_sum(const struct metrics *m, enum metric_id id, struct metric_at at)
{
	uint64_t sum = 0;

	for (int i = 0; i < METRIC_SLOTS; i++)
		sum += metrics_slot_value(m, i, id, at);
	return sum;
}

void metrics_slot_info(const struct metrics *m, int slot, struct metrics_slot_info *out)
{
	const struct metrics_slot *s = metrics_slot_at(m, slot);

	*out = (struct metrics_slot_info){
	    (enum metric_slot_kind)s->kind, s->number, s->generation, s->pid, s->heartbeat};
}
