/*
 * daemon: detaching from the terminal, with an exit code that tells whether the start worked.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_DAEMON_H
#define MARGAY_MASTER_SUPERVISOR_DAEMON_H

#include "common/attributes.h"

/*
 * Fork. The parent waits until the child reports or dies and exits with its exit code; the child
 * returns with *report set, in a session of its own. 0 or -errno.
 */
int daemon_detach(int *report) MUST_CHECK;
/* The start succeeded or failed: release the parent, and let go of the terminal. */
void daemon_report(int report, int exit_code);

#endif
