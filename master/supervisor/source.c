/* source: see source.h. */
#include "master/supervisor/source.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/address.h"
#include "common/config/reference.h"

enum { TEXT_MAX = 1024 * 1024, HEADER_NAME_MAX = 128 };

static const char upstream_name[] = "server", route_path[] = "/mcp";

/* A text in which nothing is a reference. */
static cJSON *literal(const char *text)
{
	struct buffer out = {0};

	int error = reference_escape(text, &out);
	cJSON *string = error ? NULL : cJSON_CreateString(buffer_span(&out).p);
	buffer_release(&out);
	return string;
}

/* What a user's own shell would run: in this directory, with this environment. */
static cJSON *stdio_upstream(char **command)
{
	cJSON *stdio = cJSON_CreateObject();
	cJSON *args = cJSON_AddArrayToObject(stdio, "args");
	cJSON *inherit = cJSON_AddArrayToObject(stdio, "inherit");
	char here[PATH_MAX], program[PATH_MAX];

	/* A path is meant from here. */
	bool path = strchr(command[0], '/') && realpath(command[0], program);
	cJSON_AddStringToObject(stdio, "command", path ? program : command[0]);
	for (char **arg = command + 1; *arg; arg++)
		cJSON_AddItemToArray(args, literal(*arg));
	cJSON_AddItemToArray(inherit, cJSON_CreateString("*"));
	if (getcwd(here, sizeof(here)))
		cJSON_AddStringToObject(stdio, "cwd", here);
	return stdio;
}

bool source_header_is_good(const char *text)
{
	const char *colon = strchr(text, ':');

	return colon && colon > text && (size_t)(colon - text) < HEADER_NAME_MAX;
}

/* As values of their own, in which nothing is a reference. */
static void add_headers(cJSON *http, const char *const *headers)
{
	cJSON *object = cJSON_AddObjectToObject(http, "headers");
	char name[HEADER_NAME_MAX];

	for (; *headers; headers++) {
		size_t n = strcspn(*headers, ":");
		memcpy(name, *headers, n);
		name[n] = '\0';
		const char *value = *headers + n + 1;
		cJSON_AddItemToObject(object, name, literal(value + strspn(value, " \t")));
	}
}

/* For one client, which waits while the server is started again. */
static void add_connection(cJSON *root, cJSON *http, const struct source_options *options)
{
	cJSON *timeouts = cJSON_AddObjectToObject(root, "timeouts");

	cJSON_AddNumberToObject(root, "workers", 1);
	cJSON_AddStringToObject(timeouts, "upstream_retry", "60s");
	if (options->headers && options->headers[0])
		add_headers(http, options->headers);
}

static int write_text(struct source *s, const struct source_options *options)
{
	cJSON *root = cJSON_CreateObject(), *http;
	cJSON *upstreams = cJSON_AddObjectToObject(root, "upstreams");
	cJSON *upstream = cJSON_AddObjectToObject(upstreams, upstream_name);
	cJSON *routes = cJSON_AddObjectToObject(root, "routes");
	cJSON *route = cJSON_AddObjectToObject(routes, route_path);

	cJSON_AddStringToObject(route, "upstream", upstream_name);
	if (options->command) {
		cJSON_AddItemToObject(upstream, "stdio", stdio_upstream(options->command));
	} else {
		http = cJSON_AddObjectToObject(upstream, options->sse ? "sse" : "http");
		cJSON_AddStringToObject(http, "url", options->upstream);
		if (options->connects)
			add_connection(root, http, options);
	}
	char *text = cJSON_PrintUnformatted(root);
	int error = text ? buffer_append(&s->text, text, strlen(text), TEXT_MAX) : -ENOMEM;
	free(text);
	cJSON_Delete(root);
	return error;
}

/* A port that nobody has now; the kernel gives the next program another one. */
static int find_port(struct source *s, const char *port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	uint16_t number = 0;

	if (port && address_port_parse(port, &number))
		return -EINVAL;
	address.sin_port = htons(number);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;
	if (fd < 0 || (!port && (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
				    getsockname(fd, (struct sockaddr *)&address, &length) < 0)))
		error = -errno;
	if (fd >= 0)
		close(fd);
	if (error)
		return error;
	snprintf(s->listen, sizeof(s->listen), "127.0.0.1:%u", ntohs(address.sin_port));
	return 0;
}

static int make_directory(struct source *s)
{
	const char *parent = getenv("XDG_RUNTIME_DIR");
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/margay-XXXXXX",
	    parent && parent[0] == '/' && access(parent, W_OK) == 0 ? parent : "/tmp");
	if (!mkdtemp(path))
		return -errno;
	s->directory = strdup(path);
	return s->directory ? 0 : -ENOMEM;
}

int source_open(const struct source_options *options, struct source *out, char *why, size_t size)
{
	const char *file = options->config ? options->config : options->mcp_servers;
	int error = 0;

	*out = (struct source){0};
	snprintf(why, size, "can't start");
	if (file) {
		out->path = realpath(file, NULL);
		if (!out->path)
			out->path = strdup(file);
		if (!out->path)
			return -ENOMEM;
	} else {
		error = write_text(out, options);
	}
	if (error || options->config)
		return error;
	snprintf(why, size, "can't make a directory for sockets");
	if ((error = make_directory(out)))
		return error;
	if (options->connects) {
		out->defaults = (struct config_defaults){
		    .runtime_dir = out->directory, .connected = true, .quiet = true};
		return 0;
	}
	snprintf(why, size, "no port is free on 127.0.0.1");
	if ((error = find_port(out, options->port)))
		return error;
	out->defaults = (struct config_defaults){
	    .runtime_dir = out->directory, .listen = out->listen, .quiet = true};
	return 0;
}

void source_close(struct source *s)
{
	/* What was in it is gone by now: each file by its owner. */
	if (s->directory)
		rmdir(s->directory);
	free(s->directory);
	free(s->path);
	buffer_release(&s->text);
}

const char *source_name(const struct source *s)
{
	return s->path ? s->path : "(command line)";
}

int source_read(const struct source *s, bool again, struct buffer *out)
{
	struct span text = buffer_span(&s->text);

	return s->path ? config_read(s->path, again, out)
		       : buffer_append(out, text.p, text.n, TEXT_MAX);
}

void source_announce(const struct source *s, const struct config *config)
{
	if (!s->directory || config->connected)
		return;
	for (size_t i = 0; i < config->route_count; i++)
		printf("http://%s%s\n", config->listens[0].address.text, config->routes[i].path);
	fflush(stdout);
	fprintf(
	    stderr, "margay: serving; `margay status --runtime-dir %s` shows how\n", s->directory);
}
