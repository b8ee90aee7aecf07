/* mapping: see mapping.h. */
#include "worker/mcp/mapping.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/turn.h"

struct released {
	TAILQ_ENTRY(released) link;
	struct span text; /* what is left of it */
};

/* From the end, so that what is left begins where it did. */
static void cut(struct span *text, size_t length)
{
	munmap((void *)(uintptr_t)(text->p + length), text->n - length);
	text->n = length;
}

static void drop(struct mappings *all, struct released *r)
{
	TAILQ_REMOVE(&all->list, r, link);
	free(r);
}

static void go_on(struct mappings *all)
{
	if (TAILQ_EMPTY(&all->list) || ev_is_active(&all->turn))
		return;
	ev_timer_set(&all->turn, 0, 0);
	ev_timer_start(all->loop, &all->turn);
}

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct mappings *all = container_of(timer, struct mappings, turn);
	struct released *r = TAILQ_FIRST(&all->list);

	turn_enter("unmap");
	(void)loop;
	(void)events;
	cut(&r->text, (r->text.n - 1) / MAPPING_STEP * MAPPING_STEP);
	if (r->text.n == 0)
		drop(all, r);
	go_on(all);
}

void mappings_init(struct mappings *released, struct ev_loop *loop)
{
	TAILQ_INIT(&released->list);
	released->loop = loop;
	ev_timer_init(&released->turn, on_turn, 0, 0);
}

void mappings_close(struct mappings *released)
{
	struct released *r;

	ev_timer_stop(released->loop, &released->turn);
	while ((r = TAILQ_FIRST(&released->list))) {
		cut(&r->text, 0);
		drop(released, r);
	}
}

int mapping_open(struct mappings *released, int fd, size_t bound, struct mapping *out)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return -errno;
	if (status.st_size <= 0 || (uint64_t)status.st_size > bound)
		return -EMSGSIZE;
	size_t n = (size_t)status.st_size;
	char *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*out = (struct mapping){.text = {p, n}, .released = released};
	return 0;
}

struct mapping mapping_take(struct mapping *m)
{
	struct mapping taken = *m;

	*m = (struct mapping){0};
	return taken;
}

void mapping_release(struct mapping *m)
{
	struct mapping old = mapping_take(m);
	struct released *r = old.text.n > MAPPING_STEP ? malloc(sizeof(*r)) : NULL;

	if (r) {
		r->text = old.text;
		TAILQ_INSERT_TAIL(&old.released->list, r, link);
		go_on(old.released);
	} else if (old.text.p) {
		cut(&old.text, 0);
	}
}
