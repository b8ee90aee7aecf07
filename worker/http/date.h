/* date: the Date field of answers (RFC 9110, 5.6.7), formatted once per second. */
#ifndef MARGAY_WORKER_HTTP_DATE_H
#define MARGAY_WORKER_HTTP_DATE_H

#include <time.h>

#include "common/span.h"

enum { DATE_LINE = 40 };

struct http_date {
	time_t second;
	char line[DATE_LINE];
};

/* "Date: Mon, 23 Nov 2026 12:00:00 GMT" with its line end; valid until the next call. */
struct span date_line(struct http_date *date, time_t now);

#endif
