/* endpoint: where an HTTP+SSE server wants to be spoken to (S/2024-11-05/basic/transports.mdx). */
#ifndef MARGAY_WORKER_BRIDGE_ENDPOINT_H
#define MARGAY_WORKER_BRIDGE_ENDPOINT_H

#include "common/buffer.h"
#include "common/config/config.h"

enum { ENDPOINT_MAX = 8192 };

/*
 * The request target that the data of an `endpoint` event means, as a NUL-terminated text in `out`.
 * Relative references are resolved against the URL of the stream (RFC 3986, 5.2); another origin is
 * refused, as following it would let a server send us anywhere (mcp-wire, 5.4). NULL, or what is
 * wrong with it.
 */
const char *endpoint_resolve(
    const struct config_upstream *stream, struct span data, struct buffer *out) MUST_CHECK;

#endif
