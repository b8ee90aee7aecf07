/* address: literals in, the same literals out, everything else refused. */
#include "common/address.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(address, what_is_taken_is_written_back)
{
	static const struct {
		const char *text, *back;
		bool loopback;
	} rows[] = {
	    {"127.0.0.1:8080", "127.0.0.1:8080", true},
	    {"localhost:1", "127.0.0.1:1", true},
	    {"127.9.9.9:1", "127.9.9.9:1", true},
	    {"*:65535", "0.0.0.0:65535", false},
	    {"128.0.0.1:80", "128.0.0.1:80", false},
	    {"[::1]:80", "[::1]:80", true},
	    {"[::]:80", "[::]:80", false},
	    {"[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", true},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sockaddr_storage storage;
		socklen_t length;
		char text[ADDRESS_TEXT_MAX];

		cr_assert_eq(address_parse(rows[i].text, &storage, &length), 0, "%s", rows[i].text);
		address_format(&storage, text);
		cr_assert_str_eq(text, rows[i].back);
		cr_assert_eq(address_is_loopback(&storage), rows[i].loopback, "%s", rows[i].text);
		cr_assert(address_equal(&storage, &storage));
	}
}

Test(address, anything_else_is_refused)
{
	static const char *const rows[] = {"", ":", ":80", "127.0.0.1", "127.0.0.1:", "[::1]",
	    "::1:80", "[::1:80", "[]:80", "[:80", "1.2.3:80", "256.0.0.1:80", "example.com:80",
	    "127.0.0.1:0", "127.0.0.1:080", "127.0.0.1:65536", "127.0.0.1:99999999999",
	    "127.0.0.1:8x", "127.0.0.1: 80", " 127.0.0.1:80", "127.0.0.1:+80", "[127.0.0.1]:80"};
	struct sockaddr_storage storage;
	socklen_t length;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(address_parse(rows[i], &storage, &length), -EINVAL, "%s", rows[i]);
}

Test(address, a_wildcard_overlaps_every_address_of_its_family_and_port)
{
	static const struct {
		const char *left, *right;
		bool overlap;
	} rows[] = {
	    {"127.0.0.1:1", "127.0.0.1:1", true},
	    {"127.0.0.1:1", "127.0.0.2:1", false},
	    {"*:1", "127.0.0.1:1", true},
	    {"*:1", "127.0.0.1:2", false},
	    {"[::]:1", "[::1]:1", true},
	    {"[::]:1", "[::1]:2", false},
	    {"[::]:1", "127.0.0.1:1", false},
	    {"*:1", "[::1]:1", false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sockaddr_storage left, right;
		socklen_t length;

		cr_assert_eq(address_parse(rows[i].left, &left, &length), 0);
		cr_assert_eq(address_parse(rows[i].right, &right, &length), 0);
		cr_expect_eq(address_overlap(&left, &right), rows[i].overlap, "%s %s", rows[i].left,
		    rows[i].right);
		cr_expect_eq(address_overlap(&right, &left), rows[i].overlap, "%s %s",
		    rows[i].right, rows[i].left);
	}
}
