/*
 * under_valgrind: Margay as valgrind 3.19 can run it, for scripts/instructions.
 *
 * It does not know pidfd_open, without which no broker starts: what is returned instead never
 * becomes readable, so that only the death of a master goes unnoticed. Nor does it let a process
 * lower its limit of descriptors, which the keeper does for children. Nothing that a request costs
 * is touched.
 */
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/resource.h>

int __wrap_pidfd_open(pid_t pid, unsigned flags);
int __wrap_setrlimit(int resource, const struct rlimit *limit);
int __real_setrlimit(int resource, const struct rlimit *limit);

int __wrap_pidfd_open(pid_t pid, unsigned flags)
{
	(void)pid;
	(void)flags;
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int __wrap_setrlimit(int resource, const struct rlimit *limit)
{
	return resource == RLIMIT_NOFILE ? 0 : __real_setrlimit(resource, limit);
}
