/* request: the bytes of a client's request, with the fields its era wants. */
#ifndef MARGAY_TESTS_LOAD_DRIVER_REQUEST_H
#define MARGAY_TESTS_LOAD_DRIVER_REQUEST_H

#include <stdbool.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "tests/load/driver/options.h"

#define REQUEST_LEGACY "2025-11-25" /* the revision that legacy clients ask for */

struct request {
	bool modern;
	bool close;          /* Connection: close */
	const char *session; /* Mcp-Session-Id; empty: none */
	const char *method;  /* NULL: a GET */
	const char *name;    /* of a tool, or NULL */
	const char *id;      /* NULL: a notification */
	const char *params;  /* members of a JSON object, at least one; NULL: none */
	const char *seen;    /* GET: Last-Event-ID; empty: none */
};

/* Replace what is in `out`. 0, -ENOMEM, or -EMSGSIZE. */
int request_write(struct buffer *out, const struct options *o, const struct request *r) MUST_CHECK;

#endif
