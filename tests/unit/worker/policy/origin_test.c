/* origin: who may talk to a listener. */
#include "worker/policy/origin.h"

#include <criterion/criterion.h>

#include "common/address.h"

static struct config_listen listen_on(const char *text)
{
	struct config_listen listen = {0};

	cr_assert_eq(
	    address_parse(text, &listen.address.storage, &listen.address.length), 0, "%s", text);
	return listen;
}

Test(origin, loopback_serves_only_loopback_names)
{
	static const struct {
		const char *host;
		bool allowed;
	} rows[] = {
	    {"127.0.0.1:8080", true},
	    {"127.0.0.1", true},
	    {"localhost:1", true},
	    {"LocalHost", true},
	    {"[::1]:8080", true},
	    {"evil.example", false},
	    {"evil.example:8080", false},
	    {"localhost.evil.example", false},
	    {"127.0.0.1.evil.example", false},
	    {"localhost:80x", false},
	    {"localhost:", false},
	    {"", false},
	};
	struct config_listen listen = listen_on("127.0.0.1:8080");

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(host_allowed(&listen, span_of(rows[i].host)), rows[i].allowed, "%s",
		    rows[i].host);
}

Test(origin, a_public_listener_serves_any_host_until_hosts_are_named)
{
	struct config_listen listen = listen_on("0.0.0.0:8080");
	char *hosts[] = {"gw.example"};

	cr_assert(host_allowed(&listen, SPAN("anything")));
	listen.hosts = hosts;
	listen.host_count = 1;
	cr_assert(host_allowed(&listen, SPAN("gw.example")));
	cr_assert(host_allowed(&listen, SPAN("gw.example:8443")));
	cr_assert_not(host_allowed(&listen, SPAN("anything")));
	cr_assert_not(host_allowed(&listen, SPAN("localhost")));
}

Test(origin, browsers_from_elsewhere_are_refused)
{
	static const struct {
		const char *origin;
		bool allowed;
	} rows[] = {
	    {"http://localhost:3000", true},
	    {"http://127.0.0.1", true},
	    {"https://[::1]:8443", true},
	    {"http://evil.example", false},
	    {"http://localhost.evil.example", false},
	    {"http://localhost/", false},
	    {"file://localhost", false},
	    {"null", false},
	    {"", false},
	};
	struct config_listen local = listen_on("127.0.0.1:8080");
	struct config_listen public = listen_on("0.0.0.0:8080");

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct span origin = span_of(rows[i].origin);
		cr_expect_eq(origin_allowed(&local, origin), rows[i].allowed, "%s", rows[i].origin);
		cr_expect_not(origin_allowed(&public, origin), "%s", rows[i].origin);
	}
}

Test(origin, named_origins_replace_the_default)
{
	struct config_listen listen = listen_on("127.0.0.1:8080");
	char *origins[] = {"https://app.example"};

	listen.origins = origins;
	listen.origin_count = 1;
	cr_assert(origin_allowed(&listen, SPAN("https://app.example")));
	cr_assert(origin_allowed(&listen, SPAN("HTTPS://APP.example")));
	cr_assert_not(origin_allowed(&listen, SPAN("https://app.example:444")));
	cr_assert_not(origin_allowed(&listen, SPAN("http://localhost")));
}
