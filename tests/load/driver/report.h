/*
 * report: what a run has seen: totals and latencies of each kind of client, and its failures one by
 * one.
 *
 * A failure is counted in every case; the first `row_max` also leave a row that says when and on
 * which connection. Nothing else grows with the run.
 */
#ifndef MARGAY_TESTS_LOAD_DRIVER_REPORT_H
#define MARGAY_TESTS_LOAD_DRIVER_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/attributes.h"
#include "tests/load/latency.h"

enum kind {
	KIND_KEEPALIVE_LEGACY,
	KIND_KEEPALIVE_MODERN,
	KIND_CONNECTS_LEGACY,
	KIND_CONNECTS_MODERN,
	KIND_STREAMS_LEGACY,
	KIND_STREAMS_MODERN,
	KINDS
};

enum failure {
	FAILURE_REFUSED, /* no connection */
	FAILURE_RESET,   /* of a connection with a request on it */
	FAILURE_CLOSED,  /* such a connection ended before the whole answer */
	FAILURE_STATUS,  /* other than 2xx */
	FAILURE_BAD,     /* not HTTP, not JSON-RPC, not the result of this request */
	FAILURE_LATE,    /* answered, but over --late */
	FAILURE_TIMEOUT, /* not answered within --timeout; given up */
	FAILURE_GAP,     /* an event is missing before this one */
	FAILURE_REPEAT,  /* an event that was seen before */
	FAILURE_ABSENT,  /* a stream that was not had again within --reopen */
	FAILURE_SILENT,  /* a stream without an event for --silence; given up */
	FAILURE_LOCAL,   /* a system call of the driver failed: no port, no descriptor, no memory */
	FAILURES
};

enum { REPORT_ID_MAX = 32, REPORT_SESSION_MAX = 256, REPORT_DETAIL_MAX = 96, STATUS_MAX = 600 };

struct failure_row {
	uint64_t at; /* wall clock, milliseconds; report_failed writes it */
	enum kind kind;
	enum failure failure;
	unsigned port;   /* local; 0: none */
	unsigned status; /* 0: none */
	uint64_t after;  /* microseconds since the request was begun; 0 where there is none */
	bool opening;    /* of a session at the start */
	char id[REPORT_ID_MAX];
	char first[REPORT_ID_MAX];  /* of the ids that were answered on this connection */
	char before[REPORT_ID_MAX]; /* the last of these */
	char session[REPORT_SESSION_MAX];
	char detail[REPORT_DETAIL_MAX];
};

struct tally {
	uint64_t clients, requests, answered;
	uint64_t connects, reconnects;
	uint64_t asked_to_close;              /* answers that said Connection: close */
	uint64_t idle_closes;                 /* by the server, between two requests */
	uint64_t reopened;                    /* sessions, after a 404 */
	uint64_t events, unnumbered, endings; /* endings: of streams, politely */
	uint64_t failures[FAILURES];
	uint64_t statuses[STATUS_MAX];
	struct latency latency;
};

struct report {
	struct tally kinds[KINDS];
	uint64_t opened, unopened;           /* clients at the start */
	uint64_t opening_failures[FAILURES]; /* each was tried again */
	struct failure_row *rows;
	unsigned row_count, row_max;
	uint64_t started; /* wall clock, milliseconds: when all clients were open */
	FILE *windows;    /* or NULL */
	uint64_t window_started, window_failures;
	struct latency window;
};

/* 0, or -ENOMEM; `windows` is a path or NULL: -errno when it can't be written. */
int report_open(struct report *r, unsigned row_max, const char *windows) MUST_CHECK;
void report_close(struct report *r);
/* All clients are open: time runs from now. */
void report_start(struct report *r);
void report_answered(struct report *r, enum kind kind, uint64_t microseconds);
/* Count `row` and keep it if there is room. */
void report_failed(struct report *r, struct failure_row *row);
/* End the window and begin the next. */
void report_window(struct report *r);
/* One line of JSON; with the rows only when it is the final one. */
void report_print(const struct report *r, FILE *out, bool final);

#endif
