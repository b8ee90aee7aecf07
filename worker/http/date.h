/* date: the Date field of answers (RFC 9110, 5.6.7), formatted once per second. */
#ifndef MARGAY_WORKER_HTTP_DATE_H
#define MARGAY_WORKER_HTTP_DATE_H

#include <time.h>

enum { DATE_TEXT = 32 };

struct http_date {
	time_t second;
	char text[DATE_TEXT];
};

/* "Mon, 23 Nov 2026 12:00:00 GMT"; valid until the next call. */
const char *date_text(struct http_date *date, time_t now);

#endif
