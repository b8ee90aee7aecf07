/* store: names that a service manager takes. */
#include "master/supervisor/store.h"

#include <criterion/criterion.h>
#include <string.h>

Test(store, a_listener_is_named_by_its_address_without_a_colon)
{
	static const struct {
		const char *address, *name;
	} rows[] = {
	    {"127.0.0.1:8080", "listener-127.0.0.1-8080"},
	    {"*:80", "listener-0.0.0.0-80"},
	    {"[::1]:8080", "listener-[--1]-8080"},
	    {"[fe80:1:2:3:4:5:6:7]:65535", "listener-[fe80-1-2-3-4-5-6-7]-65535"},
	};
	struct sockaddr_storage storage;
	char name[STORE_NAME_MAX];
	socklen_t length;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_assert_eq(address_parse(rows[i].address, &storage, &length), 0);
		store_listener_name(&storage, name);
		cr_expect_str_eq(name, rows[i].name);
	}
}
