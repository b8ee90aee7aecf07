/* margay-load: the command line of the load driver; see driver.h and tests/load/README.md. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/load/driver/driver.h"

/* Each client has a connection. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	static struct driver d; /* the latencies of all kinds: too much for a stack */

	if (options_parse(argc, argv, &d.options))
		return 2;
	raise_descriptor_limit();
	int error = driver_run(&d);
	if (error)
		fprintf(stderr, "margay-load: %s\n", strerror(-error));
	else
		report_print(&d.report, stdout, true);
	int code = error || d.report.unopened > 0 ? 1 : 0;
	driver_release(&d);
	return code;
}
