/* exit_code: what the commands end with (docs/commands.md). */
#ifndef MARGAY_COMMON_EXIT_CODE_H
#define MARGAY_COMMON_EXIT_CODE_H

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,      /* what was asked did not work; stderr says why */
	EXIT_USAGE = 2,       /* unknown word or option */
	EXIT_NOT_RUNNING = 3, /* no Margay runs with that runtime_dir */
	EXIT_CONFIG = 4,      /* the configuration has errors */
};

#endif
