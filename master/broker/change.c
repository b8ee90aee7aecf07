/* change: see change.h. */
#include "master/broker/change.h"

#include <stdlib.h>

#include "common/clock.h"
#include "master/broker/estate.h"

static const double patience = 0.5; /* seconds */

struct change {
	LIST_ENTRY(change) link;
	uint32_t number;
	uint64_t waits;
	struct client *maker;
	struct frame asked;
	double since; /* clock_coarse() */
};

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
	LIST_INSERT_HEAD(&c->list, one, link);
	return one->number;
}

static void end(struct changes *c, struct change *one)
{
	LIST_REMOVE(one, link);
	if (one->maker)
		c->confirm(one->maker, &one->asked);
	free(one);
}

void change_heard(struct changes *c, uint32_t number, uint64_t bit)
{
	struct change *one;

	LIST_FOREACH (one, &c->list, link) {
		if (one->number != number)
			continue;
		one->waits &= ~bit;
		if (one->waits == 0)
			end(c, one);
		return;
	}
}

void changes_forget(struct changes *c, const struct client *client, uint64_t bit)
{
	struct change *one, *next;

	LIST_FOREACH_SAFE (one, &c->list, link, next) {
		if (one->maker == client)
			one->maker = NULL;
		one->waits &= ~bit;
		if (one->waits == 0 || !one->maker)
			end(c, one);
	}
}

void changes_expire(struct changes *c, double now)
{
	struct change *one, *next;

	LIST_FOREACH_SAFE (one, &c->list, link, next) {
		if (now - one->since >= patience)
			end(c, one);
	}
}

void changes_leave(const struct changes *c, struct handover *h)
{
	const struct change *one;

	LIST_FOREACH (one, &c->list, link) {
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
	if (!one) {
		if (maker)
			c->confirm(maker, &change->asked);
		return;
	}
	one->number = change->number;
	one->waits = change->waits;
	one->maker = maker;
	one->asked = change->asked;
	one->since = change->since;
	LIST_INSERT_HEAD(&c->list, one, link);
}

void changes_close(struct changes *c)
{
	struct change *one;

	while ((one = LIST_FIRST(&c->list))) {
		LIST_REMOVE(one, link);
		free(one);
	}
}
