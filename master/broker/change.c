/* change: see change.h. Those that expire first stand first. */
#include "master/broker/change.h"

#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "common/clock.h"
#include "master/broker/estate.h"

static const double patience = 0.5; /* seconds */

struct change {
	UT_hash_handle hh;
	uint32_t number;
	uint64_t waits;
	struct client *maker;
	struct frame asked;
	double since; /* clock_coarse() */
};

/* False when memory is short; it is freed then. */
static bool add(struct changes *c, struct change *one)
{
	HASH_ADD(hh, c->by_number, number, sizeof(one->number), one);
	if (one->hh.tbl)
		return true;
	free(one);
	return false;
}

uint32_t change_begin(
    struct changes *c, struct client *maker, const struct frame *asked, uint64_t waits)
{
	struct change *one = calloc(1, sizeof(*one));

	if (!one)
		return 0;
	c->last += c->last == UINT32_MAX ? 2 : 1; /* 0 is none */
	one->number = c->last;
	one->waits = waits;
	one->maker = maker;
	one->asked = *asked;
	one->since = clock_coarse();
	return add(c, one) ? one->number : 0;
}

static void end(struct changes *c, struct change *one)
{
	HASH_DEL(c->by_number, one);
	if (one->maker)
		c->confirm(one->maker, &one->asked);
	free(one);
}

void change_heard(struct changes *c, uint32_t number, uint64_t bit)
{
	struct change *one;

	HASH_FIND(hh, c->by_number, &number, sizeof(number), one);
	if (!one)
		return;
	one->waits &= ~bit;
	if (one->waits == 0)
		end(c, one);
}

void changes_forget(struct changes *c, const struct client *client, uint64_t bit)
{
	struct change *one, *next;

	for (one = c->by_number; one; one = one->hh.next) {
		if (one->maker == client)
			one->maker = NULL;
		one->waits &= ~bit;
	}
	/* To confirm one may cost another client, which leads here again. */
	c->forgotten = true;
	if (c->forgetting)
		return;
	c->forgetting = true;
	while (c->forgotten) {
		c->forgotten = false;
		HASH_ITER (hh, c->by_number, one, next) {
			if (one->waits == 0 || !one->maker)
				end(c, one);
		}
	}
	c->forgetting = false;
}

void changes_expire(struct changes *c, double now)
{
	struct change *one;

	while ((one = c->by_number) && now - one->since >= patience)
		end(c, one);
}

void changes_leave(const struct changes *c, struct handover *h)
{
	const struct change *one;

	for (one = c->by_number; one; one = one->hh.next) {
		struct estate_change head = {.waits = one->waits,
		    .asked = one->asked,
		    .since = one->since,
		    .number = one->number,
		    .maker = client_index(one->maker)};
		handover_put(h, ESTATE_CHANGE, &head, sizeof(head), NULL, 0);
	}
}

void change_inherit(struct changes *c, const struct estate_change *change, struct client *maker)
{
	struct change *one = calloc(1, sizeof(*one));

	if (c->last < change->number)
		c->last = change->number;
	if (one) {
		one->number = change->number;
		one->waits = change->waits;
		one->maker = maker;
		one->asked = change->asked;
		one->since = change->since;
	}
	if ((!one || !add(c, one)) && maker)
		c->confirm(maker, &change->asked);
}

void changes_close(struct changes *c)
{
	struct change *one, *next;

	HASH_ITER (hh, c->by_number, one, next) {
		HASH_DEL(c->by_number, one);
		free(one);
	}
}
