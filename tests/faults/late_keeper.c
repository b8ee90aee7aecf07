/*
 * late_keeper: Margay as it must not be, to prove what an upgrade does with a keeper that is not
 * READY yet.
 *
 * The second keeper of a master takes longer to start than anybody waits for it. Takes the place of
 * keeper_main at link time.
 */
#include <unistd.h>

#include "common/role.h"

int __real_keeper_main(const struct role_boot *boot);
int __wrap_keeper_main(const struct role_boot *boot);

int __wrap_keeper_main(const struct role_boot *boot)
{
	if (boot->epoch == 2)
		sleep(60);
	return __real_keeper_main(boot);
}
