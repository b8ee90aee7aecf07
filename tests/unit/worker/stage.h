/*
 * stage: a worker without a master, for tests of its parts.
 *
 * One upstream, `up`, at 127.0.0.1:`port`; short deadlines; a log to /dev/null. Tests own the other
 * end of every socket and turn the loop by hand.
 */
#ifndef MARGAY_TESTS_STAGE_H
#define MARGAY_TESTS_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/worker.h"

struct stage {
	struct worker *worker;
	struct config config;
	struct config_upstream upstream;
	struct config_route route;
	struct role_boot boot;
	int listener;
	uint16_t port;
};

void stage_open(struct stage *s);
void stage_close(struct stage *s);
/* Turn the loop until `*flag`, at most five seconds. */
void stage_until(struct stage *s, const bool *flag);
/* Turn the loop until a connection can be accepted; returns it, blocking, with a read time-out. */
int stage_accept(struct stage *s);
/* Turn the loop until `text` was received on `fd`; the whole of what came is in `out`. */
void stage_expect(struct stage *s, int fd, const char *text, char *out, size_t size);
void stage_send(int fd, const char *text);

#endif
