/* journal_fuzz: any bytes in the journal's files open without harm, and open alike again. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "master/broker/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t journal_sessions(const int fds[JOURNAL_COUNT])
{
	struct journal j;
	struct table t;

	table_init(&t);
	if (journal_open(&j, fds, &t, 0) != 0)
		abort();
	size_t count = table_count(&t);
	table_close(&t);
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fds[JOURNAL_COUNT] = {
	    memfd_create("fuzz", MFD_CLOEXEC), memfd_create("fuzz", MFD_CLOEXEC)};

	if (fds[0] < 0 || fds[1] < 0 || pwrite(fds[0], data, size, 0) != (ssize_t)size)
		abort();
	if (journal_sessions(fds) != journal_sessions(fds))
		abort();
	close(fds[0]);
	close(fds[1]);
	return 0;
}
