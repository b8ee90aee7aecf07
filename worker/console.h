/*
 * console: stdin and stdout of this process as messages, one a line (MCP over stdio).
 *
 * Owns nothing but its buffers; the descriptors stay open. What is not read yet waits in memory,
 * bounded; whoever embeds it stops its sources while the console is congested.
 */
#ifndef MARGAY_WORKER_CONSOLE_H
#define MARGAY_WORKER_CONSOLE_H

#include <ev.h>
#include <stdbool.h>

#include "common/lines.h"

enum { CONSOLE_READ = 65536, CONSOLE_OUT_MAX = 128 * 1024 * 1024 };

struct console;

struct console_ops {
	/* A line that is not empty (valid now only). */
	void (*line)(struct console *c, struct span line);
	/* One was longer than it may be, and left out. */
	void (*too_long)(struct console *c);
	/* There will be no more. */
	void (*ended)(struct console *c);
	/* All that was said is written, or so much that more may come. */
	void (*drained)(struct console *c);
	/* Nobody reads any more. */
	void (*lost)(struct console *c);
};

struct console {
	struct ev_loop *loop;
	const struct console_ops *ops;
	ev_io in, out;
	struct lines lines;
	struct buffer output;
	bool congested, ended, closed;
	char block[CONSOLE_READ];
};

/* Begin to read; lines have at most `line_max` bytes. `c` is zero. 0 or -errno. */
int console_open(struct console *c, struct ev_loop *loop, size_t line_max,
    const struct console_ops *ops) MUST_CHECK;
void console_close(struct console *c);
/* Stop and go on reading. */
void console_read(struct console *c, bool on);
/* Write a message and a line end. 0, -EMSGSIZE when too much waits, or -ENOMEM: it is lost. */
int console_say(struct console *c, struct span message) MUST_CHECK;
/* Nothing waits to be written. */
static inline bool console_is_quiet(const struct console *c)
{
	return buffer_length(&c->output) == 0;
}

#endif
