/*
 * scrape: the answer to GET /metrics: the table of metrics, rendered a portion a turn.
 *
 * A table of hundreds of routes takes milliseconds, in which clients would wait. A reader who is
 * slow is waited for. Owned by its conn until it is over.
 */
#ifndef MARGAY_WORKER_ADMIN_SCRAPE_H
#define MARGAY_WORKER_ADMIN_SCRAPE_H

struct conn;

/* Answer the request of `c`. */
void scrape_start(struct conn *c);
/* Fewer bytes wait than did. */
void scrape_drained(struct conn *c);
/* The client is gone. */
void scrape_leave(struct conn *c);

#endif
