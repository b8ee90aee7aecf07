/*
 * adopt: children that outlived the keeper before us, taken over from the vault. See instance.h.
 *
 * A child that is alive, whose definition stands and that was initialized goes on; what it was
 * asked is lost, and both directions go on with the next line. All others are stopped.
 */
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/leftovers.h"
#include "common/procfs.h"
#include "common/turn.h"
#include "master/keeper/peer.h"

static void on_adopted_end(struct ev_loop *loop, ev_io *io, int events)
{
	struct instance *i = container_of(io, struct instance, pidfd_io);

	turn_enter("child end");
	(void)loop;
	(void)events;
	instance_ended(i, "how is not known");
}

/* The pipes are ours again; both sides may be in the middle of a line. */
static void resume(struct instance *i, bool inherited)
{
	pipes_watch(i);
	i->output.max = i->fleet->config->line;
	if (inherited)
		return;
	i->output.skipping = i->page->midway_out;
	if (i->page->midway_in) {
		i->page->midway_in = 0;
		if (instance_write(i, NULL, 0))
			LOG(i->keeper->log, LOG_LEVEL_WARN, "a child's input can't be resumed",
			    LOG_STR("upstream", i->fleet->name), LOG_INT("child_pid", i->pid));
	}
}

static bool is_alive(const struct instance *i, const struct vault_entry *kept, bool inherited)
{
	struct procfs_stat stat;

	return (inherited || kept->count == 4) && i->page->pid > 0 &&
	       procfs_stat(i->page->pid, &stat) == 0 && stat.start_time == i->page->start_time &&
	       stat.state != 'Z';
}

/* False when it has ended. */
static bool adopt_process(struct instance *i, const struct vault_entry *kept, bool inherited)
{
	struct keeper *k = i->keeper;

	/* Its end is told by this descriptor; without it we would wait for ever. */
	i->pidfd = is_alive(i, kept, inherited) ? pidfd_open(i->page->pid, 0) : -1;
	if (i->pidfd >= 0) {
		ev_io_init(&i->pidfd_io, on_adopted_end, i->pidfd, EV_READ);
		ev_io_start(k->loop, &i->pidfd_io);
	} else if (!inherited || i->page->pid <= 0) {
		return false;
	}
	i->pid = i->page->pid;
	i->in = kept->count == 4 ? kept->fds[1] : -1;
	i->out = kept->count >= 3 ? kept->fds[kept->count - 2] : -1;
	i->err = kept->count >= 3 ? kept->fds[kept->count - 1] : -1;
	i->state = i->page->initialized ? INSTANCE_READY : INSTANCE_STARTING;
	i->started = i->page->started;
	i->ready_at = clock_coarse();
	resume(i, inherited);
	instance_count_process(i, 1);
	LOG(k->log, LOG_LEVEL_INFO, "child taken over", LOG_STR("upstream", i->fleet->name),
	    LOG_INT("child_pid", i->pid));
	return true;
}

/* It ended while nobody looked: so must what it left. */
static void bury_process(struct instance *i, const struct vault_entry *kept)
{
	struct keeper *k = i->keeper;
	struct page *page = i->page;

	for (unsigned n = 1; n < kept->count; n++)
		close(kept->fds[n]);
	if (page->pid <= 0)
		return;
	orphans_sweep(k, page->pid, page->mark);
	page->pid = 0;
	if (page->row < k->row_count)
		k->rows[page->row] = 0;
	if (leftovers_write(k->boot->children_file, page->row, 0, 0))
		LOG_TEXT(k->log, LOG_LEVEL_WARN, "the list of children can't be written");
}

/* Rows are given by number: ours stays ours. */
static bool retake_row(struct instance *i)
{
	struct keeper *k = i->keeper;

	while (k->row_count <= i->page->row) {
		uint8_t *rows = realloc(k->rows, k->row_count + 256);
		if (!rows)
			return false;
		memset(rows + k->row_count, 0, 256);
		k->rows = rows;
		k->row_count += 256;
	}
	k->rows[i->page->row] = i->page->pid > 0;
	return true;
}

bool instance_adopt(struct keeper *k, const struct vault_entry *kept, bool inherited)
{
	struct page *page;

	if (kept->count < 1 || page_open(kept->fds[0], &page))
		return false;
	struct fleet *f = fleet_find(k, span_of(page->upstream));
	bool changed = !f || strcmp(f->digest, page->digest) != 0;
	if (changed)
		f = fleet_orphanage(k, page->upstream);
	struct instance *i = f ? instance_add(f, page->id) : NULL;
	if (!i) {
		page_close(page);
		return false;
	}
	if (page->id > k->last_id)
		k->last_id = page->id;
	i->page = page;
	i->page_fd = kept->fds[0];
	i->kept = true;
	i->restarts = page->restarts;
	i->bound = page->bound;
	i->stateless = page->stateless;
	i->shared |= i->stateless;
	bool whole =
	    retake_row(i) && page_read_texts(i->page_fd, page, &i->handshake, &i->result) == 0;
	if (!adopt_process(i, kept, inherited))
		bury_process(i, kept);
	if (inherited && whole)
		return true; /* its sessions, and what becomes of it, follow */
	if (i->bound && !i->shared && !link_get(i, &page->session))
		whole = false;
	if (whole && i->shared)
		whole = links_restore(i) == 0;
	if (changed || !whole || (!i->shared && !i->bound))
		instance_stop(i, changed ? "its definition changed" : "the keeper was restarted");
	else if (i->pid <= 0 || !page->initialized)
		/* What was not initialized has lost the one who waited for it. */
		instance_recycle(i, "the keeper was restarted");
	return true;
}
