/* address: literals only, so that reading a configuration never waits for the network. */
#include "common/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

int address_port_parse(const char *text, unsigned short *port)
{
	unsigned value = 0;

	if (*text < '1' || *text > '9')
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++) {
		value = value * 10 + (unsigned)(*text - '0');
		if (value > 65535)
			return -EINVAL;
	}
	if (*text != '\0')
		return -EINVAL;
	*port = (unsigned short)value;
	return 0;
}

static int parse_ip4(const char *host, unsigned short port, struct sockaddr_storage *storage)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (strcmp(host, "*") == 0)
		host = "0.0.0.0";
	else if (strcasecmp(host, "localhost") == 0)
		host = "127.0.0.1";
	if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
		return -EINVAL;
	memset(storage, 0, sizeof(*storage));
	memcpy(storage, &in, sizeof(in));
	return 0;
}

static int parse_ip6(const char *host, unsigned short port, struct sockaddr_storage *storage)
{
	struct sockaddr_in6 in = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (inet_pton(AF_INET6, host, &in.sin6_addr) != 1)
		return -EINVAL;
	memset(storage, 0, sizeof(*storage));
	memcpy(storage, &in, sizeof(in));
	return 0;
}

int address_parse(const char *text, struct sockaddr_storage *storage, socklen_t *length)
{
	char host[ADDRESS_TEXT_MAX];
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : 0;
	unsigned short port;

	if (n == 0 || n >= sizeof(host) || address_port_parse(colon + 1, &port) != 0)
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		if (parse_ip6(host + 1, port, storage) != 0)
			return -EINVAL;
		*length = sizeof(struct sockaddr_in6);
		return 0;
	}
	if (parse_ip4(host, port, storage) != 0)
		return -EINVAL;
	*length = sizeof(struct sockaddr_in);
	return 0;
}

bool address_is_loopback(const struct sockaddr_storage *storage)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (storage->ss_family == AF_INET) {
		memcpy(&in, storage, sizeof(in));
		return ntohl(in.sin_addr.s_addr) >> 24 == 127;
	}
	if (storage->ss_family != AF_INET6)
		return false;
	memcpy(&in6, storage, sizeof(in6));
	return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
	       (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == 127);
}

bool address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	char left[ADDRESS_TEXT_MAX], right[ADDRESS_TEXT_MAX];

	address_format(a, left);
	address_format(b, right);
	return a->ss_family == b->ss_family && strcmp(left, right) == 0;
}

static bool is_wildcard(const struct sockaddr_storage *storage)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (storage->ss_family == AF_INET) {
		memcpy(&in, storage, sizeof(in));
		return in.sin_addr.s_addr == htonl(INADDR_ANY);
	}
	if (storage->ss_family != AF_INET6)
		return false;
	memcpy(&in6, storage, sizeof(in6));
	return IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr);
}

static in_port_t port_of(const struct sockaddr_storage *storage)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (storage->ss_family == AF_INET) {
		memcpy(&in, storage, sizeof(in));
		return in.sin_port;
	}
	memcpy(&in6, storage, sizeof(in6));
	return in6.sin6_port;
}

bool address_overlap(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	if (address_equal(a, b))
		return true;
	return a->ss_family == b->ss_family && (is_wildcard(a) || is_wildcard(b)) &&
	       port_of(a) == port_of(b);
}

void address_format(const struct sockaddr_storage *storage, char text[ADDRESS_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "";
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (storage->ss_family == AF_INET) {
		memcpy(&in, storage, sizeof(in));
		inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT_MAX, "%s:%u", host, (unsigned)ntohs(in.sin_port));
	} else if (storage->ss_family == AF_INET6) {
		memcpy(&in6, storage, sizeof(in6));
		inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT_MAX, "[%s]:%u", host, (unsigned)ntohs(in6.sin6_port));
	} else {
		snprintf(text, ADDRESS_TEXT_MAX, "unknown");
	}
}
