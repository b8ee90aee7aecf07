/* mapping: a file in memory, its owner, and how it goes. */
#include "worker/mcp/mapping.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static struct ev_loop *loop;
static struct mappings released;

static void open_loop(void)
{
	loop = ev_loop_new(0);
	mappings_init(&released, loop);
}

static void close_loop(void)
{
	mappings_close(&released);
	ev_loop_destroy(loop);
}

TestSuite(mapping, .init = open_loop, .fini = close_loop);

static int file_of(size_t length)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	cr_assert_eq(ftruncate(fd, (off_t)length), 0);
	return fd;
}

static bool is_mapped(const char *p)
{
	unsigned char there;

	return mincore((void *)(uintptr_t)p, 1, &there) == 0;
}

Test(mapping, what_is_empty_or_too_long_is_refused)
{
	struct mapping m = {0};
	int empty = file_of(0), some = file_of(5000);

	cr_assert_eq(mapping_open(&released, empty, 5000, &m), -EMSGSIZE);
	cr_assert_eq(mapping_open(&released, some, 4999, &m), -EMSGSIZE);
	cr_assert_null(m.text.p);
	cr_assert_eq(mapping_open(&released, some, 5000, &m), 0);
	cr_assert_eq(m.text.n, 5000);
	close(empty);
	close(some);
	cr_assert_eq(m.text.p[4999], 0);
	const char *p = m.text.p;
	struct mapping mine = mapping_take(&m);
	mapping_release(&m);
	cr_assert(is_mapped(p));
	mapping_release(&mine);
	cr_assert_not(is_mapped(p));
}

Test(mapping, a_long_one_goes_in_many_turns)
{
	enum { STEPS = 4 };
	struct mapping m;
	int fd = file_of(STEPS * MAPPING_STEP + 1);

	cr_assert_eq(mapping_open(&released, fd, SIZE_MAX, &m), 0);
	close(fd);
	const char *p = m.text.p;
	mapping_release(&m);
	for (size_t left = STEPS; left > 0; left--) {
		ev_run(loop, EVRUN_NOWAIT);
		cr_assert_not(is_mapped(p + left * MAPPING_STEP));
		cr_assert(is_mapped(p + (left - 1) * MAPPING_STEP));
	}
	ev_run(loop, EVRUN_NOWAIT);
	cr_assert_not(is_mapped(p));
	cr_assert_not(ev_run(loop, EVRUN_NOWAIT), "nothing is due any more");
}

Test(mapping, what_was_released_goes_at_the_end)
{
	struct mapping m;
	int fd = file_of(4 * MAPPING_STEP);

	cr_assert_eq(mapping_open(&released, fd, SIZE_MAX, &m), 0);
	close(fd);
	const char *p = m.text.p;
	mapping_release(&m);
	ev_run(loop, EVRUN_NOWAIT);
	cr_assert(is_mapped(p));
	mappings_close(&released);
	cr_assert_not(is_mapped(p));
}
