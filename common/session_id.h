/*
 * session_id: the `Mcp-Session-Id` that a client sees.
 *
 * base64url(node | epoch | 128 random bits | truncated HMAC-SHA-256), 36 characters. A forged id is
 * refused without asking the broker; an id carries no address and is never proof of identity. The
 * binary form without HMAC is the key of the session everywhere inside Margay.
 */
#ifndef MARGAY_COMMON_SESSION_ID_H
#define MARGAY_COMMON_SESSION_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/role.h"
#include "common/span.h"

enum { SESSION_ID_BYTES = 19, SESSION_ID_TEXT = 36, SESSION_ID_SHORT = 8, SESSION_MAC = 8 };
enum { SESSION_ID_HEAD = 3 /* bytes before those that are random */ };

struct session_id {
	uint8_t bytes[SESSION_ID_BYTES]; /* node 2, epoch 1, random 16 */
};

/* A fresh id from the kernel's random numbers. 0 or -EIO. */
int session_id_create(uint16_t node, uint8_t epoch, struct session_id *out) MUST_CHECK;
/* Write the 36 characters and a NUL; an empty text, which never parses, when memory ran out. */
void session_id_format(const struct session_id *id, const uint8_t key[SESSION_KEY_SIZE],
    char out[SESSION_ID_TEXT + 1]);
/* Its first characters and a NUL: for the log. */
void session_id_shorten(const struct session_id *id, char out[SESSION_ID_SHORT + 1]);
/* False when the text is no id that this key made. Constant time in the HMAC. */
bool session_id_parse(
    struct span text, const uint8_t key[SESSION_KEY_SIZE], struct session_id *out) MUST_CHECK;
/* The two halves of it, for who remembers which HMAC was right: the first judges the form only. */
bool session_id_decode(
    struct span text, struct session_id *out, uint8_t mac[SESSION_MAC]) MUST_CHECK;
bool session_id_is_ours(const struct session_id *id, const uint8_t mac[SESSION_MAC],
    const uint8_t key[SESSION_KEY_SIZE]) MUST_CHECK;

#endif
