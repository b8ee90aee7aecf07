/*
 * seal: the `requestState` that Margay hands to clients of the stateless era.
 *
 * AES-256-GCM under a key that all workers share, bound to the route and to the request that it is
 * the state of; what is changed in it, what is used with another request, or too late, does not
 * open. That it works only once is the parked call's own business. When clients have principals,
 * they belong into `bound`.
 */
#ifndef MARGAY_WORKER_MCP_SEAL_H
#define MARGAY_WORKER_MCP_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/ipc/broker_proto.h"
#include "common/role.h"

struct envelope;

enum { SEAL_DIGEST = 32, SEAL_TEXT_MAX = 160 };

struct ticket {
	struct mail_box_id box; /* of the parked call */
	uint32_t round;         /* of its questions */
	uint32_t capabilities;  /* that its client declared, enum capability */
	uint64_t expires;       /* seconds of the monotonic clock */
	uint8_t digest[SEAL_DIGEST];
};

/* What makes a retry the same request: its method and params, but for what a retry adds and changes
 * (2026-07-28, input_required). Members may come in another order. */
bool seal_digest(const struct envelope *e, uint8_t out[SEAL_DIGEST]) MUST_CHECK;
/* The text, without quotes, ended by NUL. False when the machine has no random numbers. */
bool seal_close(const struct ticket *ticket, const uint8_t key[SESSION_KEY_SIZE], struct span bound,
    char out[SEAL_TEXT_MAX]) MUST_CHECK;
bool seal_open(struct span text, const uint8_t key[SESSION_KEY_SIZE], struct span bound,
    struct ticket *out) MUST_CHECK;

#endif
