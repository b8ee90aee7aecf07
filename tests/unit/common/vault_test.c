/* vault: it owns what it was given, and closes it when it is to. */
#include "common/vault.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

Test(vault, holds_replaces_and_drops)
{
	struct vault v = {0};
	int a[2], b[2];

	cr_assert(pipe(a) == 0 && pipe(b) == 0);
	cr_assert_eq(vault_put(&v, 7, a, 2), 0);
	cr_expect_eq(v.count, 1);
	cr_assert_eq(vault_put(&v, 7, b, 1), 0);
	cr_expect_eq(v.count, 1, "the same key is the same entry");
	cr_expect(!is_open(a[0]) && !is_open(a[1]) && is_open(b[0]));
	vault_drop(&v, 8);
	cr_expect(is_open(b[0]));
	vault_drop(&v, 7);
	cr_expect_not(is_open(b[0]));
	cr_expect_eq(v.count, 0);
	close(b[1]);
	vault_close(&v);
}

Test(vault, holds_many_and_closes_all)
{
	struct vault v = {0};
	int fds[300];

	for (int i = 0; i < 300; i++) {
		fds[i] = dup(0);
		cr_assert_eq(vault_put(&v, (uint64_t)i, &fds[i], 1), 0);
	}
	for (int i = 0; i < 300; i += 2)
		vault_drop(&v, (uint64_t)i);
	cr_expect_eq(v.count, 150);
	for (int i = 0; i < 300; i++)
		cr_expect_eq(is_open(fds[i]), i % 2 == 1);
	vault_close(&v);
	for (int i = 0; i < 300; i++)
		cr_expect_not(is_open(fds[i]));
}
