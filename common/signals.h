/* signals: what a forked child does with the signals of its parent: nothing of it stays. */
#ifndef MARGAY_COMMON_SIGNALS_H
#define MARGAY_COMMON_SIGNALS_H

#include <signal.h>

/* All dispositions to their defaults, nothing blocked. Safe between fork and exec. */
static inline void signals_reset(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL); /* KILL and STOP refuse, which is fine */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

#endif
