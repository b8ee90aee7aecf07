/* connection: see connection.h. */
#include "master/ctl/connection.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/config/config.h"
#include "common/control.h"
#include "common/exit_code.h"
#include "common/procfs.h"

enum { LOOK_EVERY = 500 }; /* milliseconds */

int ctl_parse_options(
    int argc, char **argv, int takes, const char *operand, struct ctl_options *out)
{
	static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
	    {"runtime-dir", required_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'}, {0}};
	int c;

	*out = (struct ctl_options){.key = operand};
	while ((c = getopt_long(argc, argv, "c:", longs, NULL)) != -1) {
		if (c == 'c')
			out->config = optarg;
		else if (c == 'r')
			out->runtime_dir = optarg;
		else if (c == 'j' && (takes & CTL_JSON))
			out->json = 1;
		else
			return EXIT_USAGE;
	}
	if (operand && optind < argc)
		out->operand = argv[optind++];
	if (operand && !out->operand && !(takes & CTL_OPTIONAL)) {
		fprintf(stderr, "margay: say which %s: %s NAME -c FILE\n", operand, argv[0]);
		return EXIT_USAGE;
	}
	if (optind == argc && (out->config || out->runtime_dir))
		return 0;
	fprintf(stderr, "margay: say which Margay: %s -c FILE or %s --runtime-dir DIR\n", argv[0],
	    argv[0]);
	return EXIT_USAGE;
}

/* The runtime_dir that a configuration names; the rest of it may be wrong. NULL after a message. */
static char *runtime_dir_of(const char *path, int *code)
{
	struct buffer bytes = {0}, text = {0};
	struct config_errors errors;
	struct config *config;
	char *dir = NULL;

	int error = config_read(path, false, &bytes);
	*code = EXIT_CONFIG;
	if (error) {
		fprintf(stderr, "margay: %s can't be read: %s\n", path, strerror(-error));
	} else {
		dir = config_runtime_dir(buffer_span(&bytes));
		if (!dir && config_parse(buffer_span(&bytes), NULL, &config, &errors) == -EINVAL) {
			if (config_errors_print(&errors, path, &text) == 0)
				fprintf(stderr, "%.*s", (int)buffer_length(&text),
				    buffer_span(&text).p);
			config_errors_free(&errors);
		}
	}
	buffer_release(&bytes);
	buffer_release(&text);
	return dir;
}

static int connect_to(const char *runtime_dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[CONTROL_PATH_MAX];

	if (!control_path(runtime_dir, CONTROL_SOCKET, path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, sizeof(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static int send_request(int fd, const char *command, const struct ctl_options *options)
{
	cJSON *request = cJSON_CreateObject();

	cJSON_AddStringToObject(request, "command", command);
	if (options->operand)
		cJSON_AddStringToObject(request, options->key, options->operand);
	char *line = cJSON_PrintUnformatted(request);
	cJSON_Delete(request);
	size_t n = line ? strlen(line) : 0;
	bool sent = line && send(fd, line, n, MSG_NOSIGNAL) == (ssize_t)n &&
		    send(fd, "\n", 1, MSG_NOSIGNAL) == 1;
	free(line);
	return sent ? 0 : -1;
}

/* The broker of a dead master holds its socket: who connects to it would wait for nobody. */
static bool master_is_dead(const char *runtime_dir)
{
	struct procfs_stat process;
	char path[CONTROL_PATH_MAX], text[24] = "";

	if (!control_path(runtime_dir, PID_FILE, path))
		return false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (fd >= 0)
		close(fd);
	pid_t pid = n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
	return pid > 0 && ((kill(pid, 0) < 0 && errno == ESRCH) ||
			      (procfs_stat(pid, &process) == 0 && process.state == 'Z'));
}

/* Wait until there is something to read. False: there never will be. */
static bool wait_for(int fd, const char *runtime_dir)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};

	while (poll(&readable, 1, LOOK_EVERY) <= 0) {
		if (master_is_dead(runtime_dir))
			return false;
	}
	return true;
}

/* One line. NULL when the connection ended before. */
static cJSON *read_reply(int fd, const char *runtime_dir)
{
	struct buffer in = {0};
	char block[16384];
	cJSON *reply = NULL;
	ssize_t n;

	while (wait_for(fd, runtime_dir) &&
	       ((n = recv(fd, block, sizeof(block), 0)) > 0 || (n < 0 && errno == EINTR))) {
		if (n > 0 &&
		    buffer_append(&in, block, (size_t)n, CONTROL_REPLY_MAX + sizeof(block)))
			break;
		struct span text = buffer_span(&in);
		if (memchr(text.p, '\n', text.n)) {
			reply = cJSON_ParseWithLength(text.p, text.n);
			break;
		}
	}
	buffer_release(&in);
	return reply;
}

int ctl_request(const struct ctl_options *options, const char *command, cJSON **reply, int *fd)
{
	int code = EXIT_FAILED;
	char *dir = options->runtime_dir ? strdup(options->runtime_dir)
					 : runtime_dir_of(options->config, &code);

	if (!dir)
		return code;
	*fd = connect_to(dir);
	if (*fd < 0) {
		bool nobody = errno == ENOENT || errno == ECONNREFUSED;
		fprintf(stderr,
		    nobody ? "margay: no Margay runs with runtime_dir %s\n" : "margay: %s: %s\n",
		    dir, strerror(errno));
		free(dir);
		return nobody ? EXIT_NOT_RUNNING : EXIT_FAILED;
	}
	*reply = send_request(*fd, command, options) == 0 ? read_reply(*fd, dir) : NULL;
	if (*reply) {
		free(dir);
		return 0;
	}
	bool dead = master_is_dead(dir);
	fprintf(stderr,
	    dead ? "margay: the master of runtime_dir %s is dead, what it has started may serve "
		   "on: start another one\n"
		 : "margay: the Margay of runtime_dir %s ended without an answer\n",
	    dir);
	free(dir);
	close(*fd);
	return dead ? EXIT_NOT_RUNNING : EXIT_FAILED;
}
