/* origin: see origin.h. Values compare exactly, but for the case of scheme and host. */
#include "worker/policy/origin.h"

#include <ctype.h>

#include "common/address.h"

static const struct span loopback_names[] = {{"localhost", 9}, {"127.0.0.1", 9}, {"[::1]", 5}};

static bool listed(char *const *rows, size_t count, struct span value)
{
	for (size_t i = 0; i < count; i++) {
		struct span row = span_of(rows[i]);
		if (span_equal(row, SPAN("*")) || span_equal_nocase(row, value))
			return true;
	}
	return false;
}

/* host without its `:port`; a port that is no number leaves the value whole, so that it matches
 * nothing. */
static struct span without_port(struct span host)
{
	size_t n = host.n;

	while (n > 0 && isdigit((unsigned char)host.p[n - 1]))
		n--;
	if (n > 0 && n < host.n && host.p[n - 1] == ':')
		return (struct span){host.p, n - 1};
	return host;
}

static bool is_loopback_name(struct span host)
{
	struct span name = without_port(host);

	for (size_t i = 0; i < sizeof(loopback_names) / sizeof(loopback_names[0]); i++) {
		if (span_equal_nocase(name, loopback_names[i]))
			return true;
	}
	return false;
}

bool host_allowed(const struct config_listen *listen, struct span host)
{
	if (address_is_loopback(&listen->address.storage) && is_loopback_name(host))
		return true;
	if (listen->host_count == 0)
		return !address_is_loopback(&listen->address.storage);
	return listed(listen->hosts, listen->host_count, host) ||
	       listed(listen->hosts, listen->host_count, without_port(host));
}

bool origin_allowed(const struct config_listen *listen, struct span origin)
{
	static const struct span schemes[] = {{"http://", 7}, {"https://", 8}};

	if (listed(listen->origins, listen->origin_count, origin))
		return true;
	if (listen->origin_count > 0 || !address_is_loopback(&listen->address.storage))
		return false;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		struct span scheme = schemes[i];
		if (origin.n > scheme.n &&
		    span_equal_nocase((struct span){origin.p, scheme.n}, scheme) &&
		    is_loopback_name((struct span){origin.p + scheme.n, origin.n - scheme.n}))
			return true;
	}
	return false;
}
