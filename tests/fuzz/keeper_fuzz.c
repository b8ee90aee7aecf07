/*
 * keeper_fuzz: what a child writes, and what clients send it, in any order and any bytes.
 *
 * Each input is a script: a byte says who speaks (the child's stdout, or one of two sessions; for
 * one of the stateless era, somebody without), two say how long, the rest is said. Whatever comes,
 * frames for the worker stay whole and what is held stays bounded.
 */
#include <stdlib.h>

#include "tests/unit/master/keeper/bench.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bench s;

static void give(void *context, struct span line)
{
	(void)context;
	if (line.n > 0 && s.child->state != INSTANCE_GONE)
		deliver_line(s.child, line);
}

static void give_too_long(void *context, struct span beginning)
{
	(void)context;
	deliver_too_long(s.child, beginning);
}

static void client_says(unsigned session, uint32_t request, struct span message)
{
	struct session_id id = bench_session(session);
	char payload[70000];
	struct frame frame = {.type = KEEPER_SEND, .request = request, .target = s.child->id};

	memcpy(payload, id.bytes, sizeof(id.bytes));
	memcpy(payload + sizeof(id.bytes), message.p, message.n);
	peer_dispatch(s.peer, &frame, (struct span){payload, sizeof(id.bytes) + message.n});
}

static void anybody_says(uint32_t request, struct span message)
{
	char text[70000];

	memcpy(text, message.p, message.n);
	text[message.n] = '\0';
	bench_ask(&s, request, text);
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
	static const struct lines_ops ops = {give, give_too_long};
	struct lines lines = {.max = 4096};
	uint32_t request = 0;

	if (size < 1)
		return 0;
	bench_open(&s, data[0] & 1 ? CONFIG_SHARED : CONFIG_PER_SESSION);
	if (data[0] & 2)
		s.child->stateless = s.child->shared = true;
	else
		bench_listen(&s, 1, ++request);
	for (size_t at = 1; at + 3 <= size;) {
		size_t n = (size_t)data[at + 1] | (size_t)(data[at + 2] & 0x3) << 8;
		unsigned who = data[at] % 4;
		at += 3;
		n = n < size - at ? n : size - at;
		struct span said = {(const char *)data + at, n};
		if (who < 2)
			lines_feed(&lines, said, &ops, NULL);
		else if (data[0] & 2)
			anybody_says(++request, said);
		else
			client_says(who - 1, ++request, said);
		at += n;
		check();
	}
	buffer_release(&lines.part);
	bench_close(&s);
	return 0;
}
