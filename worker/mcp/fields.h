/*
 * fields: what requests of the stateless era repeat of their bodies in header fields
 * (mcp-wire 1.5).
 */
#ifndef MARGAY_WORKER_MCP_FIELDS_H
#define MARGAY_WORKER_MCP_FIELDS_H

#include "worker/mcp/translate/translate.h"

/* Whether a field's value says this text: as it is, or as =?base64?...?=. */
bool field_says(struct span value, struct span text);
/* The lines of a request of ours; `e` may be NULL when it has no subject, `annotations` when its
 * tool has none. 0 or -ENOMEM, -EMSGSIZE. */
int fields_put(struct buffer *out, const struct mcp_method *method, const struct envelope *e,
    const struct annotations *annotations) MUST_CHECK;
/* What is wrong with the Mcp-Param-* among header lines, for the arguments of this call; NULL:
 * nothing. */
const char *fields_check(
    struct span lines, const struct annotations *annotations, const struct envelope *e);

#endif
