/*
 * client: one of the driver's clients: its name, its session, its requests and what went wrong.
 *
 * What all kinds have in common is here; what a kind does once its session is open is its role
 * (caller, stream). Ids are `k3:17`: kind, client, and a number that is never used again, so each
 * request can be found in Margay's access log. One request is out at a time.
 */
#ifndef MARGAY_TESTS_LOAD_DRIVER_CLIENT_H
#define MARGAY_TESTS_LOAD_DRIVER_CLIENT_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/timeout.h"
#include "tests/load/driver/link.h"
#include "tests/load/driver/order.h"
#include "tests/load/driver/report.h"
#include "tests/load/driver/request.h"
#include "worker/http/sse.h"

struct client;
struct driver;

/* What a kind does when its session is open; what it doesn't do is NULL. */
struct role {
	char letter; /* of its ids */
	void (*begin)(struct client *c);
	/* The head of a 2xx answer with events; non-zero refuses it (set link.answer.error). */
	int (*streaming)(struct client *c);
	/* An event; as above. */
	int (*event)(struct client *c, struct span data);
	/* The whole 2xx answer. */
	void (*answered)(struct client *c);
	/* The request failed, which was counted. */
	void (*failed)(struct client *c);
	/* The run ends. */
	void (*stop)(struct client *c);
};

enum client_phase { PHASE_INITIALIZE, PHASE_INITIALIZED, PHASE_WORK };

/* What became of the answer to the request: nothing yet, a result, anything else. */
enum client_verdict { VERDICT_NONE, VERDICT_RESULT, VERDICT_BAD };

struct client {
	struct driver *driver;
	const struct role *role;
	enum kind kind;
	unsigned number;
	bool modern;
	bool fresh; /* a connection for each request */
	bool opened_once, gave_up, finished;
	enum client_phase phase;
	enum client_verdict verdict;
	struct link link;
	struct buffer request, body;
	struct sse_data sse;
	struct sse_marks marks;
	struct timeout deadline;       /* of the request */
	ev_timer again;                /* until the next request */
	uint64_t ids, connects, calls; /* calls: that were answered */
	uint64_t sent_at;              /* microseconds */
	uint64_t due_at;               /* microseconds: of a paced call */
	char id[REPORT_ID_MAX], first[REPORT_ID_MAX], before[REPORT_ID_MAX];
	char session[REPORT_SESSION_MAX];
	/* Streams. */
	bool streaming;
	struct order order;
	struct timeout silence;
	ev_timer absence;
};

void client_init(struct client *c, struct driver *d, enum kind kind, unsigned number);
/* Open its session and, when all are open, begin. */
void client_open(struct client *c);
/* Begin the work, if its session could be opened. */
void client_begin(struct client *c);
/* The run ends: finish what is under way, then be finished. */
void client_stop(struct client *c);
/* Nothing is under way any more. */
void client_finish(struct client *c);
void client_release(struct client *c);

/* For roles. */
struct tally *client_tally(struct client *c);
/* Send `r`, completed by session and id. */
void client_send(struct client *c, struct request *r);
/* Count a failure, of the request or of an event. */
void client_fail(struct client *c, enum failure what, const char *detail, unsigned port);
/* Call role->begin after so many seconds. */
void client_again(struct client *c, double seconds);
/* Look at a message: whether it answers the request; c->verdict keeps that. False when it is no
 * JSON-RPC message. */
bool client_judge(struct client *c, struct span message);

extern const struct role caller_role, connecting_role, get_role, listen_role;

#endif
