/*
 * certificate: a certificate chain and its private key, both PEM, for a server's context of
 * OpenSSL.
 *
 * Who checks a configuration and who serves by it take them the same way, so that what passed the
 * check is what a worker can use. Owns nothing. Never asks for a passphrase.
 */
#ifndef MARGAY_COMMON_CERTIFICATE_H
#define MARGAY_COMMON_CERTIFICATE_H

#include <time.h>

#include "common/attributes.h"

struct ssl_ctx_st;

enum certificate_fault {
	CERTIFICATE_GOOD,
	CERTIFICATE_NO_MEMORY,
	CERTIFICATE_NOT_PEM,
	CERTIFICATE_DAMAGED,
	CERTIFICATE_REFUSED, /* by the policy of the system's OpenSSL, as a key that is too short */
	CERTIFICATE_KEY_NOT_PEM,
	CERTIFICATE_KEY_ENCRYPTED,
	CERTIFICATE_KEY_OF_ANOTHER,
};

/* Into `context`. The chain begins with the server's own certificate. */
enum certificate_fault certificate_use(
    struct ssl_ctx_st *context, const char *chain, const char *key) MUST_CHECK;
/* When a server's own certificate begins and ends to be valid: negative, zero or positive as
 * `now` lies before, within or behind. */
int certificate_age(const struct ssl_ctx_st *context, time_t now);

#endif
