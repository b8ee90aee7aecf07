/*
 * desktop: the one client of `margay connect`, on stdin and stdout of this worker.
 *
 * One message a line in both directions (2024-11-05 to 2026-07-28, stdio); the rest is an inlet's.
 * Reads no more than can be dealt with, and nothing from upstreams while the client does not read.
 * The end of stdin ends the worker, when what was asked is answered.
 */
#ifndef MARGAY_WORKER_MCP_DESKTOP_H
#define MARGAY_WORKER_MCP_DESKTOP_H

#include "common/attributes.h"

struct desktop;
struct worker;

/* Begin to read. `done` runs once, when the client has ended and has all its answers. 0 or -errno.
 */
int desktop_open(struct worker *w, void (*done)(struct worker *w), struct desktop **out) MUST_CHECK;
/* Margay is told to end: at once, as its client was told or is gone. */
void desktop_drain(struct desktop *d);
void desktop_close(struct desktop *d);

#endif
