/* endpoint: /mcp, Streamable HTTP of 2025-03-26, 2025-06-18 and 2025-11-25. */
#ifndef MARGAY_MASTER_DEMO_ENDPOINT_H
#define MARGAY_MASTER_DEMO_ENDPOINT_H

#include "master/demo/http_answer.h"
#include "master/demo/http_request.h"
#include "master/demo/protocol.h"

#define ENDPOINT_PATH "/mcp"

/* Check a complete request, run it, and begin its answer; the answer may be complete at once. */
void endpoint_handle(
    struct server *server, const struct http_request *request, struct http_answer *a);
/* Refuse a request that could not be read; the connection can't go on. */
void endpoint_refuse(struct http_answer *a, unsigned status);

#endif
