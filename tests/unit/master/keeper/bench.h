/* bench: a keeper without a master: one fleet with one child that is two pipes, and one worker that
 * is a socket. The test is at the other ends. */
#ifndef MARGAY_TESTS_UNIT_MASTER_KEEPER_BENCH_H
#define MARGAY_TESTS_UNIT_MASTER_KEEPER_BENCH_H

#include "master/keeper/estate.h"

enum { BENCH_TEXT = 256 * 1024 };

struct bench {
	struct role_boot boot;
	struct vault vault, left; /* the master's */
	struct config config;
	struct config_upstream upstream;
	struct keeper *keeper;
	struct fleet *fleet;
	struct instance *child;
	struct peer *peer;
	bool child_ended; /* for bench_replace */
	/* our ends: of the master, worker, stdin, stdout and stderr */
	int channel, worker, input, output, errors;
	struct buffer received; /* from the keeper, for the worker */
	char text[BENCH_TEXT];  /* what was last taken */
};

/* A child that is ready, shared or of one session. */
void bench_open(struct bench *s, enum config_sharing sharing);
void bench_close(struct bench *s);
struct session_id bench_session(unsigned number);
/* A message of that session's, as request `request` of the worker's. */
void bench_send(struct bench *s, unsigned session, uint32_t request, const char *message);
/* A message without a session, for the upstream. */
void bench_ask(struct bench *s, uint32_t request, const char *message);
void bench_listen(struct bench *s, unsigned session, uint32_t request);
/* One line of the child's. */
void bench_say(struct bench *s, const char *line);
/* One turn of the loop: read what there is. */
void bench_turn(struct bench *s);
/* Bytes of the child's stdout, and turns until they are written. */
void bench_write(struct bench *s, struct span bytes);
/* Turns until nothing is scanned any more; how many. */
unsigned bench_wait(struct bench *s);
/* Another keeper takes the place of the one there is; what belongs to that one is the test's no
 * more. */
void bench_replace(struct bench *s);
/* All that the child got since the last time, as text. */
const char *bench_heard(struct bench *s);
/* The next frame for the worker, its payload as text; false when there is none. */
bool bench_told(struct bench *s, struct frame *frame);
/* The id that the child saw last: of the last line it got. */
unsigned long long bench_number(const char *heard);

#endif
