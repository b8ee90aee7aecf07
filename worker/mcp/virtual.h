/*
 * virtual: sessions that exist in Margay only, because their upstream is of the stateless era.
 *
 * Their state is a JSON object: what initialize said of the client (capabilities as a modern client
 * gives them, clientInfo), and what the client set since: the level of log messages, the URIs it
 * subscribed to. It travels with the session record, so every worker has it.
 */
#ifndef MARGAY_WORKER_MCP_VIRTUAL_H
#define MARGAY_WORKER_MCP_VIRTUAL_H

#include "common/ipc/broker_proto.h"
#include "worker/mcp/translate/translate.h"

bool virtual_session(const struct session_record *record);
/* Spans into `state`. */
struct client_identity virtual_identity(struct span state);
/* The array of URIs, raw JSON. */
struct span virtual_uris(struct span state);

/* The state that an initialize makes. */
void virtual_begin(struct compose *c, const struct envelope *e, enum mcp_version version);
/* The state with another level, with one URI more or less; all raw JSON. */
void virtual_set_level(struct compose *c, struct span state, struct span level);
void virtual_set_uri(struct compose *c, struct span state, struct span uri, bool subscribed);

#endif
