/*
 * session_cache: the session records that this worker used last, bounded and compact.
 *
 * A record is kept with its strings at their real length and expanded on look-up. Each entry
 * belongs to an epoch: the connection to the broker under which it was fetched. After a reconnect
 * an entry may have missed an invalidation.
 */
#ifndef MARGAY_WORKER_MCP_SESSION_CACHE_H
#define MARGAY_WORKER_MCP_SESSION_CACHE_H

#include <stdbool.h>

#include "common/ipc/broker_proto.h"

enum { SESSION_CACHE_MAX = 16384 };

struct session_cache;
struct session_entry;

int session_cache_open(struct session_cache **out) MUST_CHECK;
void session_cache_close(struct session_cache *c);
/* Store or replace; when the cache is full, one that was not used for long goes. Out of memory it
 * is not cached. */
void session_cache_put(
    struct session_cache *c, const struct session_record *record, uint32_t epoch);
/* NULL when not cached. */
struct session_entry *session_cache_find(struct session_cache *c, const struct session_id *id);
void session_cache_drop(struct session_cache *c, const struct session_id *id);
/* Valid until the next expansion. */
const struct session_record *session_entry_expand(
    struct session_cache *c, const struct session_entry *entry);
uint32_t session_entry_epoch(const struct session_entry *entry);
/* The HMAC of the id's text, once it was found right: an HMAC costs as much as a fifth of a
 * request. */
bool session_entry_has_mac(const struct session_entry *entry, const uint8_t mac[SESSION_MAC]);
void session_entry_keep_mac(struct session_entry *entry, const uint8_t mac[SESSION_MAC]);
/* It is used at this second: true when the broker should hear of it. */
bool session_entry_touch(struct session_entry *entry, uint32_t seconds);

#endif
