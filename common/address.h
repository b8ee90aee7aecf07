/*
 * address: listen addresses as text, as sockaddr, and back. Never asks a resolver.
 */
#ifndef MARGAY_COMMON_ADDRESS_H
#define MARGAY_COMMON_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "common/attributes.h"

/* "[", the longest IPv6 text, "]:65535" and a NUL. */
enum { ADDRESS_TEXT_MAX = 64 };

/*
 * "127.0.0.1:8080", "[::1]:8080", "*:8080" (0.0.0.0) or "localhost:8080" (127.0.0.1). The port, 1
 * to 65535, is required. 0, or -EINVAL with both results untouched.
 */
int address_parse(const char *text, struct sockaddr_storage *storage, socklen_t *length) MUST_CHECK;
/* Decimal digits, 1 to 65535, no leading zero. 0 or -EINVAL. */
int address_port_parse(const char *text, unsigned short *port) MUST_CHECK;
/* 127.0.0.0/8, ::1, or an IPv4 loopback mapped into IPv6; false for other families. */
bool address_is_loopback(const struct sockaddr_storage *storage);
/* Same family, address and port. */
bool address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
/* Equal, or of one family and port with one of the two the family's wildcard: not both can be
 * bound. */
bool address_overlap(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
/* "127.0.0.1:80" or "[::1]:80"; "unknown" for other families. */
void address_format(const struct sockaddr_storage *storage, char text[ADDRESS_TEXT_MAX]);

#endif
