/* procfs: what is told of a process is true of this one. */
#include "common/procfs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { HIGH = 300, NO_PROCESS = 0x7ffffff0 };

Test(procfs, tells_of_descriptors_and_state)
{
	struct procfs_stat stat;

	cr_assert_eq(procfs_stat(getpid(), &stat), 0);
	cr_expect_eq(stat.pid, getpid());
	cr_expect_eq(stat.parent, getppid());
	cr_expect_eq(stat.state, 'R');
	int fd = fcntl(0, F_DUPFD_CLOEXEC, HIGH);
	cr_assert_geq(fd, HIGH);
	cr_expect_gt(procfs_descriptors(getpid()), fd);
	close(fd);
	cr_expect_eq(procfs_stat(NO_PROCESS, &stat), -ENOENT);
	cr_expect_eq(procfs_descriptors(NO_PROCESS), -ENOENT);
}
