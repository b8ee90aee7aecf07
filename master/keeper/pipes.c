/*
 * pipes: what goes through the pipes of a child. See instance.h.
 *
 * Nothing waits for a child: what it does not read is bounded, what it writes is read in turns, and
 * not at all while those who get it can take no more.
 */
#include <errno.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/turn.h"
#include "master/keeper/peer.h"
#include "master/keeper/spawn.h"

enum { ERROR_LINE_MAX = 4096 };

static void close_watcher(struct instance *i, ev_io *io, int *fd)
{
	if (*fd < 0)
		return;
	ev_io_stop(i->keeper->loop, io);
	close(*fd);
	*fd = -1;
}

void pipes_end_input(struct instance *i)
{
	close_watcher(i, &i->in_io, &i->in);
}

void pipes_close(struct instance *i)
{
	close_watcher(i, &i->in_io, &i->in);
	close_watcher(i, &i->out_io, &i->out);
	close_watcher(i, &i->err_io, &i->err);
	close_watcher(i, &i->report_io, &i->report);
	close_watcher(i, &i->pidfd_io, &i->pidfd);
	buffer_release(&i->input);
	i->input_broken = false;
}

bool pipes_take_report(struct instance *i, char *why, size_t size)
{
	struct spawn_failure failure;

	if (i->report < 0)
		return false;
	ssize_t n = read(i->report, &failure, sizeof(failure));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	close_watcher(i, &i->report_io, &i->report);
	if (n != sizeof(failure))
		return false;
	spawn_failure_text(&failure, why, size);
	return true;
}

void instance_flush(struct instance *i)
{
	struct span input = buffer_span(&i->input);

	if (i->in < 0 || input.n == 0)
		return;
	/* Should we die in the middle, our successor ends the line. */
	i->page->midway_in = 1;
	ssize_t n = write(i->in, input.p, input.n);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		/* It has closed its input. Whether it ends is for its exit to say. */
		i->input_broken = true;
		buffer_release(&i->input);
		ev_io_stop(i->keeper->loop, &i->in_io);
		return;
	}
	if (n > 0)
		buffer_consume(&i->input, (size_t)n);
	if (buffer_length(&i->input) > 0) {
		ev_io_start(i->keeper->loop, &i->in_io);
		return;
	}
	i->page->midway_in = 0;
	ev_io_stop(i->keeper->loop, &i->in_io);
	if (i->input.capacity > KEEPER_SCRATCH)
		buffer_release(&i->input);
}

/* A message is one line: line ends in it, which can only stand between its tokens, become spaces.
 */
static void join_lines(char *p, size_t n)
{
	for (char *at; (at = memchr(p, '\n', n)); p = at + 1) {
		n -= (size_t)(at + 1 - p);
		*at = ' ';
	}
}

int instance_write(struct instance *i, const struct span *pieces, unsigned count)
{
	/* A message beyond the limit may pass a child that reads; one that does not is bounded. */
	size_t bound = i->fleet->config->line, n = 1;

	if (i->in < 0 || i->input_broken)
		return -EPIPE;
	for (unsigned p = 0; p < count; p++)
		n += pieces[p].n;
	if (buffer_length(&i->input) > 0 && buffer_length(&i->input) + n > bound)
		return -EMSGSIZE;
	int error = buffer_reserve(&i->input, n, STREAM_MESSAGE_MAX + bound);
	size_t start = buffer_length(&i->input);
	for (unsigned p = 0; p < count && !error; p++)
		error =
		    buffer_append(&i->input, pieces[p].p, pieces[p].n, STREAM_MESSAGE_MAX + bound);
	if (!error)
		join_lines(i->input.data + i->input.head + start, buffer_length(&i->input) - start);
	if (!error)
		error = buffer_append(&i->input, "\n", 1, STREAM_MESSAGE_MAX + bound);
	if (!error && !i->is_dirty) {
		i->is_dirty = true;
		TAILQ_INSERT_TAIL(&i->keeper->dirty, i, dirty);
	}
	i->last_used = clock_coarse();
	return error;
}

static void on_input(struct ev_loop *loop, ev_io *io, int events)
{
	turn_enter("child stdin");
	(void)loop;
	(void)events;
	instance_flush(container_of(io, struct instance, in_io));
}

static void give_line(void *context, struct span line)
{
	struct instance *i = context;

	/* After it was stopped nobody is left to hear it. */
	if (line.n > 0 && i->state != INSTANCE_GONE)
		deliver_line(i, line);
}

static void give_too_long(void *context, struct span beginning)
{
	deliver_too_long(context, beginning);
}

static void give_error(void *context, struct span line)
{
	noise_stderr(context, line);
}

static const struct lines_ops output_ops = {give_line, give_too_long};
static const struct lines_ops error_ops = {give_error, give_error};

/* A long line of stdout is delivered in later turns; until then nothing is read. */
static void take_output(struct instance *i)
{
	/* Without the memory for that it is delivered at once. */
	while (i->state != INSTANCE_GONE && i->output.held > 0 && !deliver_later(i)) {
		deliver_line(i, lines_held(&i->output));
		lines_release(&i->output, &output_ops, i);
	}
	if (i->state == INSTANCE_GONE)
		return;
	i->page->midway_out = lines_midway(&i->output);
	instance_update(i);
}

void pipes_release(struct instance *i)
{
	lines_release(&i->output, &output_ops, i);
	take_output(i);
	if (i->how[0] && i->state != INSTANCE_GONE)
		instance_ended(i, i->how);
}

int pipes_restore(struct instance *i, struct span part)
{
	int error = lines_restore(&i->output, part);

	take_output(i);
	return error;
}

/* One read of stdout. False at its end, or when nothing is there, or while a line is held. */
static bool read_output(struct instance *i)
{
	struct keeper *k = i->keeper;

	if (i->out < 0 || i->state == INSTANCE_GONE || i->scanning)
		return false;
	ssize_t n = read(i->out, k->scratch, sizeof(k->scratch));
	if (n > 0) {
		i->output.max = i->fleet->config->line;
		i->output.at_once = SCANNING_SHORT;
		lines_feed(&i->output, (struct span){k->scratch, (size_t)n}, &output_ops, i);
		if (i->output.held > 0)
			take_output(i);
		else if (i->state != INSTANCE_GONE)
			i->page->midway_out = lines_midway(&i->output);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_watcher(i, &i->out_io, &i->out);
	return false;
}

static void on_output(struct ev_loop *loop, ev_io *io, int events)
{
	struct instance *i = container_of(io, struct instance, out_io);

	turn_enter("child stdout");
	(void)loop;
	(void)events;
	/* Each child may add a line: many together must not. */
	i->stalled_by = peer_full(i->keeper);
	if (i->stalled_by)
		instance_update(i);
	else
		read_output(i);
	if (i->out < 0)
		instance_mute(i);
}

static bool read_errors(struct instance *i)
{
	struct keeper *k = i->keeper;

	if (i->err < 0)
		return false;
	ssize_t n = read(i->err, k->scratch, sizeof(k->scratch));
	if (n > 0)
		lines_feed(&i->errors, (struct span){k->scratch, (size_t)n}, &error_ops, i);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_watcher(i, &i->err_io, &i->err);
	return n > 0;
}

static void on_errors(struct ev_loop *loop, ev_io *io, int events)
{
	turn_enter("child stderr");
	(void)loop;
	(void)events;
	read_errors(container_of(io, struct instance, err_io));
}

void pipes_drain(struct instance *i)
{
	enum { DRAIN_READS = 64 }; /* more than a pipe holds */

	for (; i->drained < DRAIN_READS && read_output(i); i->drained++) {
	}
	for (int reads = 0; reads < DRAIN_READS && read_errors(i); reads++) {
	}
}

void instance_update(struct instance *i)
{
	bool read =
	    (i->shared || i->paused_by == 0) && !i->stalled_by && !i->scanning && !i->how[0];

	if (i->out < 0)
		return;
	if (read)
		ev_io_start(i->keeper->loop, &i->out_io);
	else
		ev_io_stop(i->keeper->loop, &i->out_io);
}

static void on_report(struct ev_loop *loop, ev_io *io, int events)
{
	struct instance *i = container_of(io, struct instance, report_io);
	char why[160];

	turn_enter("child start");
	(void)loop;
	(void)events;
	if (pipes_take_report(i, why, sizeof(why)))
		instance_fail_start(i, why);
}

void pipes_await_exec(struct instance *i, int report)
{
	i->report = report;
	ev_io_init(&i->report_io, on_report, report, EV_READ);
	ev_io_start(i->keeper->loop, &i->report_io);
}

void pipes_watch(struct instance *i)
{
	struct ev_loop *loop = i->keeper->loop;

	ev_io_init(&i->in_io, on_input, i->in, EV_WRITE);
	ev_io_init(&i->out_io, on_output, i->out, EV_READ);
	ev_io_init(&i->err_io, on_errors, i->err, EV_READ);
	if (i->out >= 0)
		ev_io_start(loop, &i->out_io);
	if (i->err >= 0)
		ev_io_start(loop, &i->err_io);
	i->errors.max = ERROR_LINE_MAX;
	/* What an earlier process left unfinished is not the beginning of this one's first line. */
	lines_clear(&i->output);
	lines_clear(&i->errors);
}
