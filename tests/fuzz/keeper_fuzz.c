/*
 * keeper_fuzz: what a child writes, and what clients send it, in any order and any bytes.
 *
 * Each input is a script: a byte says who speaks (the child's stdout, or one of two sessions; for
 * one of the stateless era, somebody without), whether a long space comes before it, and whether
 * the loop turns before it; two say how long, the rest is said. Whatever comes, frames for the
 * worker stay whole and what is held stays bounded.
 */
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/master/keeper/bench.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SPACE = SCANNING_SHORT + 10, LONGER = 4, TURN = 8, FORGET = 16 };

static struct bench s;
static char text[SPACE + 2000]; /* what is said next */

static void child_says(struct span bytes)
{
	/* A turn takes what the pipe does not; one that is stopped is not read for ever. */
	for (int turns = 0; bytes.n > 0 && turns < 100; turns++) {
		ssize_t n = write(s.output, bytes.p, bytes.n);
		n = n > 0 ? n : 0;
		bytes = (struct span){bytes.p + n, bytes.n - (size_t)n};
		if (bytes.n > 0)
			bench_turn(&s);
	}
}

static void client_says(unsigned session, uint32_t request, struct span message)
{
	struct session_id id = bench_session(session);
	struct frame frame = {.type = KEEPER_SEND, .request = request, .target = s.child->id};
	struct buffer payload = {0};

	if (buffer_append(&payload, id.bytes, sizeof(id.bytes), BENCH_TEXT) ||
	    buffer_append(&payload, message.p, message.n, BENCH_TEXT))
		abort();
	intake_take(s.peer, &frame, buffer_span(&payload), 0);
	buffer_release(&payload);
}

static void forget(uint32_t request)
{
	struct frame frame = {.type = KEEPER_FORGET, .flags = KEEPER_CANCEL, .request = request};

	intake_take(s.peer, &frame, (struct span){"", 0}, 0);
}

static void check(void)
{
	struct frame frame;
	const struct link *l;

	if (!s.peer->closed) {
		while (bench_told(&s, &frame)) { /* aborts at a broken one */
		}
	}
	for (l = s.child->links; l; l = l->hh.next) {
		if (l->held_count > LINK_HELD_MAX || l->ask_count > LINK_ASKS_MAX ||
		    l->uri_count > LINK_URIS_MAX)
			abort();
	}
	if (buffer_length(&s.child->input) > 2 * (s.upstream.stdio.line + 65536))
		abort();
	bench_heard(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t request = 0;

	if (size < 1)
		return 0;
	bench_open(&s, data[0] & 1 ? CONFIG_SHARED : CONFIG_PER_SESSION);
	s.upstream.stdio.line = 2 * SPACE;
	if (data[0] & 2)
		s.child->stateless = s.child->shared = true;
	else
		bench_listen(&s, 1, ++request);
	for (size_t at = 1; at + 3 <= size;) {
		size_t n = (size_t)data[at + 1] | (size_t)(data[at + 2] & 0x3) << 8;
		unsigned who = data[at] % 4, how = data[at];
		at += 3;
		n = n < size - at ? n : size - at;
		size_t before = how & LONGER ? SPACE : 0;
		memset(text, ' ', before);
		memcpy(text + before, data + at, n);
		text[before + n] = '\0';
		struct span said = {text, before + n};
		if (how & TURN)
			bench_turn(&s);
		if (who < 2)
			child_says(said);
		else if (data[0] & 2)
			bench_ask(&s, ++request, text);
		else
			client_says(who - 1, ++request, said);
		if (how & FORGET)
			forget(request);
		at += n;
		check();
	}
	bench_turn(&s);
	bench_wait(&s);
	check();
	bench_close(&s);
	return 0;
}
