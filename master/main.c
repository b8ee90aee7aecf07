/*
 * main: the command table; nothing else.
 *
 * `margay WORD ...` runs the row of that word with argv[0] = WORD. Exit codes are in
 * common/exit_code.h.
 */
#include <ares.h>
#include <cjson/cJSON.h>
#include <ev.h>
#include <http_parser.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "common/exit_code.h"
#include "common/role.h"
#include "common/suggest.h"
#include "common/title.h"
#include "master/ctl/ctl.h"
#include "master/demo/demo.h"
#include "master/supervisor/supervisor.h"

static int version_main(int argc, char **argv);
static int help_main(int argc, char **argv);

static const struct command {
	const char *word;
	int (*run)(int argc, char **argv);
	const char *arguments;
	const char *summary;
	const char *help;
} commands[] = {
    {"run", supervisor_main, "-c FILE | -- COMMAND",
	"Serve in the foreground: a configuration, or a single server",
	"  -c, --config FILE       the configuration; etc/margay.yaml explains every key\n"
	"  -- COMMAND ARGS...      a server that speaks MCP on stdin and stdout\n"
	"      --upstream URL      a server that speaks Streamable HTTP\n"
	"      --mcp-servers FILE  the servers of a desktop client's list, each at /NAME/mcp\n"
	"  -p, --port PORT         for the last three, which listen on a free port of 127.0.0.1\n"
	"                          and print the URL\n"
	"  -d, --daemon            detach from the terminal; exits 0 when Margay serves\n\n"
	"Signals to the master: HUP reloads, TERM and INT stop gracefully, QUIT stops at once,\n"
	"USR1 opens the log file again, USR2 upgrades to the binary on disk.\n"},
    {"connect", connect_main, "URL", "Let a client that speaks stdio use a server over HTTP",
	"      --header 'NAME: VALUE'  sent with every request; may be repeated\n"
	"      --sse                   the server speaks HTTP+SSE (2024-11-05), not Streamable "
	"HTTP\n\n"
	"Speaks MCP of any revision on stdin and stdout, and of any revision with the server. "
	"Waits\n"
	"up to a minute for a server that is being started again.\n"},
    {"check", check_main, "-c FILE", "Report every error of a configuration; change nothing",
	"  -c, --config FILE  the configuration\n"
	"      --keys         print the table of all keys instead\n"},
    {"status", status_main, "-c FILE [--json]", "Show processes, sessions and the last reload",
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n"
	"      --json             all of it, for scripts\n"},
    {"upstreams", upstreams_main, "-c FILE [--json]", "Show the servers behind Margay",
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n"
	"      --json             all of it, for scripts\n"},
    {"restart", restart_main, "UPSTREAM -c FILE", "End the children of a stdio upstream",
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n\n"
	"New requests start new children. Sessions end, unless the upstream is `restartable`.\n"},
    {"replace", replace_main, "keeper|broker -c FILE", "Exchange a process without losing anything",
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n\n"
	"A new process takes over connections, children and all that is under way. For one that "
	"has\n"
	"grown, say.\n"},
    {"reload", reload_main, "-c FILE [--json]",
	"Take the changed configuration into service, or say why not",
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n"
	"      --json             the outcome for scripts, too; what is wrong still goes to "
	"stderr\n\n"
	"Waits for the result. A bad file changes nothing and exits with 1.\n"},
    {"upgrade", upgrade_main, "[PATH] -c FILE", "Let another binary take over, losing nothing",
	"  PATH                   the new binary; without it the file that runs now, as it is on "
	"disk\n"
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n\n"
	"Waits until the new master serves. One that fails changes nothing and exits with 1.\n"},
    {"rollback", rollback_main, "-c FILE", "Go back to the binary before the last upgrade",
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n\n"
	"Possible as long as the old master waits for its workers to drain.\n"},
    {"stop", stop_main, "-c FILE", "Stop gracefully and wait for the end",
	"  -c, --config FILE      the configuration of the running Margay, for its runtime_dir\n"
	"      --runtime-dir DIR  or the directory itself\n"},
    {"bridge", bridge_main, "URL", "Speak stdio in front of a server that speaks HTTP+SSE",
	"Upstreams of the kind `sse` have one for each session; there is no other need to run it.\n"
	"Header fields come from the environment: MARGAY_HEADER_0='NAME: VALUE', and so on.\n"},
    {"demo-server", demo_main, "[--http HOST:PORT]", "Run a small MCP server to try Margay with",
	NULL},
    {"version", version_main, "", "Print the version of Margay and of its libraries", ""},
    {"help", help_main, "[COMMAND]", "Print this, or the help of a command", ""},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static int version_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	unsigned long parser = http_parser_version();
	printf("margay " MARGAY_VERSION "\n"
	       "libev %d.%d, http-parser %lu.%lu.%lu, cJSON %s, libyaml %s, c-ares %s, %s\n",
	    ev_version_major(), ev_version_minor(), parser >> 16 & 255, parser >> 8 & 255,
	    parser & 255, cJSON_Version(), yaml_get_version_string(), ares_version(NULL),
	    OpenSSL_version(OPENSSL_VERSION));
	return EXIT_OK;
}

static void print_overview(FILE *out)
{
	fprintf(out, "margay: an MCP gateway, operated like nginx\n\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  margay %-12s %-20s %s\n", commands[i].word, commands[i].arguments,
		    commands[i].summary);
	fprintf(out,
	    "\n`margay COMMAND --help` says more. Exit codes: %d done, %d failed, %d wrong usage,\n"
	    "%d no such Margay runs, %d the configuration has errors.\n",
	    EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_RUNNING, EXIT_CONFIG);
}

static const struct command *command_find(const char *word)
{
	const char *words[COMMAND_COUNT];

	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		words[i] = commands[i].word;
		if (strcmp(word, words[i]) == 0)
			return &commands[i];
	}
	const char *near = suggest(word, words, COMMAND_COUNT);
	fprintf(stderr, "margay: unknown command `%s`%s%s%s; `margay help` lists all\n", word,
	    near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
	return NULL;
}

static int print_help(const struct command *c)
{
	printf("margay %s %s\n%s.\n\n%s", c->word, c->arguments, c->summary, c->help);
	return EXIT_OK;
}

static int help_main(int argc, char **argv)
{
	if (argc < 2) {
		print_overview(stdout);
		return EXIT_OK;
	}
	const struct command *c = command_find(argv[1]);
	if (!c)
		return EXIT_USAGE;
	if (c->help)
		return print_help(c);
	char *help[] = {argv[1], "--help", NULL};
	return c->run(2, help);
}

int main(int argc, char **argv)
{
	title_init(argc, argv);
	if (argc < 2) {
		print_overview(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help_main(1, argv);
	if (strcmp(argv[1], "--version") == 0)
		return version_main(0, NULL);
	const struct command *c = command_find(argv[1]);
	if (!c)
		return EXIT_USAGE;
	if (c->help && argc > 2 && strcmp(argv[2], "--help") == 0)
		return print_help(c);
	return c->run(argc - 1, argv + 1);
}
