/* orders: commands whose outcome is a message: restart, replace, upgrade, rollback. See ctl.h. */
#include <cjson/cJSON.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/exit_code.h"
#include "master/ctl/connection.h"
#include "master/ctl/ctl.h"
#include "master/ctl/reply.h"

/* Say it, and print what comes of it. */
static int say(const struct ctl_options *options, const char *command)
{
	cJSON *reply;
	int fd, code = ctl_request(options, command, &reply, &fd);

	if (code)
		return code;
	close(fd);
	bool ok = cJSON_IsTrue(cJSON_GetObjectItem(reply, "ok"));
	fprintf(ok ? stdout : stderr, "%s%s\n", ok ? "" : "margay: ", reply_text(reply, "message"));
	cJSON_Delete(reply);
	return ok ? EXIT_OK : EXIT_FAILED;
}

int restart_main(int argc, char **argv)
{
	struct ctl_options options;
	int code = ctl_parse_options(argc, argv, 0, "upstream", &options);

	return code ? code : say(&options, argv[0]);
}

int replace_main(int argc, char **argv)
{
	struct ctl_options options;
	int code = ctl_parse_options(argc, argv, 0, "process", &options);

	return code ? code : say(&options, argv[0]);
}

int upgrade_main(int argc, char **argv)
{
	struct ctl_options options;
	char path[PATH_MAX];
	int code = ctl_parse_options(argc, argv, CTL_OPTIONAL, "path", &options);

	/* A path is meant from here; one that is not there is the master's to refuse. */
	if (!code && options.operand && realpath(options.operand, path))
		options.operand = path;
	return code ? code : say(&options, argv[0]);
}

int rollback_main(int argc, char **argv)
{
	struct ctl_options options;
	int code = ctl_parse_options(argc, argv, 0, NULL, &options);

	return code ? code : say(&options, argv[0]);
}
