/*
 * order: whether the events of a session's stream come once each and in order.
 *
 * Event ids end in a decimal number that counts up by one (`17`, `s-17`). The last one seen is also
 * what a client comes back with (Last-Event-ID), so what is held here outlives the connections.
 */
#ifndef MARGAY_TESTS_LOAD_DRIVER_ORDER_H
#define MARGAY_TESTS_LOAD_DRIVER_ORDER_H

#include <stdbool.h>
#include <stdint.h>

enum order_verdict { ORDER_NEXT, ORDER_GAP, ORDER_REPEAT, ORDER_UNREADABLE };

enum { ORDER_ID_MAX = 64 };

struct order {
	bool begun;
	uint64_t number;
	char id[ORDER_ID_MAX]; /* the last event's; empty before the first */
};

/* Take the next event's id. After a gap the count goes on from there; a repeat moves nothing. */
enum order_verdict order_take(struct order *o, const char *id);

#endif
