/*
 * control: the control socket, runtime_dir/control.sock (docs/control-socket.md).
 *
 * Only the user that Margay runs as, and root, may connect (mode 0600, and SO_PEERCRED says who
 * really does). Requests are one JSON object per line; each command is a row of a table. Lines and
 * replies are bounded, writes never block.
 *
 * A reload can fail while its request is still being run. Its answers go out from the loop, never
 * from there: or one client's requests would run inside each other.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buffer.h"
#include "common/ipc/channel.h"
#include "common/ipc/credentials.h"
#include "common/suggest.h"
#include "master/supervisor/children.h"
#include "master/supervisor/request.h"
#include "master/supervisor/supervisor.h"
#include "master/supervisor/upgrade.h"

static const double accept_pause = 0.5, keeper_patience = 7; /* seconds */

enum { CLIENTS_MAX = 64, READ_BLOCK = 4096 };

struct client {
	LIST_ENTRY(client) link;
	struct control *control;
	ev_io io;
	struct buffer in, out;
	bool waits_for_reload; /* further requests wait, too; so they do for the keeper */
	bool waits_for_upgrade;
	uint32_t keeper_request; /* asked of the keeper; 0: nothing */
	uint16_t keeper_type;    /* what, and about which upstream */
	char keeper_upstream[REQUEST_WORD_MAX];
	const struct child *replaced; /* it waits for this one's replacement */
	bool wants_upstreams;         /* its report goes into the one on all upstreams */
	ev_timer patience;
	bool read_ended;
};

struct control {
	struct supervisor *supervisor;
	ev_io io;
	ev_timer pause;    /* while descriptors are short */
	ev_timer reloaded; /* answers those who wait for a reload */
	char path[CONTROL_PATH_MAX];
	LIST_HEAD(, client) clients;
	unsigned client_count;
	uint32_t last_request;
};

static void on_client(struct ev_loop *loop, ev_io *io, int events);
static bool client_write(struct client *cl);

static void client_close(struct client *cl)
{
	struct control *c = cl->control;

	ev_io_stop(c->supervisor->loop, &cl->io);
	ev_timer_stop(c->supervisor->loop, &cl->patience);
	close(cl->io.fd);
	LIST_REMOVE(cl, link);
	c->client_count--;
	buffer_release(&cl->in);
	buffer_release(&cl->out);
	free(cl);
}

static void client_update(struct client *cl)
{
	struct ev_loop *loop = cl->control->supervisor->loop;
	int events = (cl->read_ended ? 0 : EV_READ) | (buffer_length(&cl->out) > 0 ? EV_WRITE : 0);

	ev_io_stop(loop, &cl->io);
	ev_io_set(&cl->io, cl->io.fd, events);
	if (events)
		ev_io_start(loop, &cl->io);
}

/* Queue one line. Takes the reply. */
static void reply(struct client *cl, cJSON *object)
{
	char *text = object ? cJSON_PrintUnformatted(object) : NULL;

	cJSON_Delete(object);
	/* A client that does not read its replies stops getting them. */
	if (text && !buffer_append(&cl->out, text, strlen(text), CONTROL_REPLY_MAX) &&
	    buffer_append(&cl->out, "\n", 1, CONTROL_REPLY_MAX + 1) != 0)
		cl->read_ended = true;
	free(text);
	client_update(cl);
}

static cJSON *outcome(bool ok, const char *message)
{
	cJSON *object = cJSON_CreateObject();

	cJSON_AddBoolToObject(object, "ok", ok);
	cJSON_AddStringToObject(object, "message", message);
	return object;
}

static bool is_waiting(const struct client *cl)
{
	return cl->waits_for_reload || cl->waits_for_upgrade || cl->keeper_request != 0 ||
	       cl->replaced;
}

static void on_status(struct client *cl, struct span line)
{
	(void)line;
	reply(cl, status_report(cl->control->supervisor));
}

static void on_reload(struct client *cl, struct span line)
{
	struct supervisor *s = cl->control->supervisor;

	(void)line;
	if (s->state != SUPERVISOR_RUNNING) {
		reply(cl, outcome(false, "Margay is starting or stopping"));
		return;
	}
	cl->waits_for_reload = true;
	reload_request(s);
}

static void ask_keeper(struct client *cl, uint16_t type, const char *upstream)
{
	struct control *c = cl->control;

	do
		cl->keeper_request = ++c->last_request;
	while (cl->keeper_request == 0);
	cl->keeper_type = type;
	snprintf(cl->keeper_upstream, sizeof(cl->keeper_upstream), "%s", upstream);
	ev_timer_set(&cl->patience, keeper_patience, 0);
	ev_timer_start(c->supervisor->loop, &cl->patience);
	keeping_ask(c->supervisor, type, cl->keeper_request, upstream);
}

static void on_upstreams(struct client *cl, struct span line)
{
	(void)line;
	cl->wants_upstreams = true;
	ask_keeper(cl, CHANNEL_ASK, "");
}

static void on_restart(struct client *cl, struct span line)
{
	char name[REQUEST_WORD_MAX];

	cl->wants_upstreams = false;
	if (request_text(line, "upstream", name))
		ask_keeper(cl, CHANNEL_RESTART, name);
	else
		reply(cl, outcome(false, "say which: {\"command\":\"restart\",\"upstream\":NAME}"));
}

static void on_upgrade(struct client *cl, struct span line)
{
	char path[REQUEST_WORD_MAX], why[200];
	bool other = request_text(line, "path", path);

	cl->waits_for_upgrade = true;
	if (upgrade_start(cl->control->supervisor, other ? path : NULL, why, sizeof(why)) == 0)
		return;
	cl->waits_for_upgrade = false;
	reply(cl, outcome(false, why));
}

static void on_rollback(struct client *cl, struct span line)
{
	char why[200];

	(void)line;
	cl->waits_for_upgrade = true;
	if (heir_rollback(cl->control->supervisor, why, sizeof(why)) == 0)
		return;
	cl->waits_for_upgrade = false;
	reply(cl, outcome(false, why));
}

static void on_replace(struct client *cl, struct span line)
{
	struct supervisor *s = cl->control->supervisor;
	struct child *c = NULL;
	char name[REQUEST_WORD_MAX];

	if (request_text(line, "process", name))
		c = strcmp(name, "keeper") == 0   ? s->keeper
		    : strcmp(name, "broker") == 0 ? s->broker
						  : NULL;
	if (!c)
		reply(cl,
		    outcome(false, "say which: {\"command\":\"replace\",\"process\":\"keeper\"}, "
				   "or \"broker\""));
	else if (upgrade_busy(s))
		reply(cl, outcome(false, "an upgrade is under way"));
	else if (child_replace(c))
		cl->replaced = c;
	else
		reply(cl, outcome(false, "it is starting or stopping"));
}

static void on_stop(struct client *cl, struct span line)
{
	(void)line;
	/* The reply goes out now; the end of the connection tells that Margay has ended. */
	reply(cl, outcome(true, "stopping"));
	supervisor_stop(cl->control->supervisor, false);
}

static const struct {
	const char *name;
	void (*run)(struct client *cl, struct span line);
} commands[] = {
    {"status", on_status},
    {"upstreams", on_upstreams},
    {"restart", on_restart},
    {"replace", on_replace},
    {"reload", on_reload},
    {"upgrade", on_upgrade},
    {"rollback", on_rollback},
    {"stop", on_stop},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static void unknown_command(struct client *cl, const char *word)
{
	const char *names[COMMAND_COUNT];
	char message[160];

	for (size_t i = 0; i < COMMAND_COUNT; i++)
		names[i] = commands[i].name;
	const char *near = suggest(word, names, COMMAND_COUNT);
	snprintf(message, sizeof(message), "unknown command `%.64s`%s%s%s", word,
	    near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
	reply(cl, outcome(false, message));
}

static void run_line(struct client *cl, struct span line)
{
	char word[REQUEST_WORD_MAX];
	size_t i = 0;

	if (!request_text(line, "command", word)) {
		reply(
		    cl, outcome(false, "a request is a JSON object with a `command`, on one line"));
		return;
	}
	while (i < COMMAND_COUNT && strcmp(commands[i].name, word) != 0)
		i++;
	if (i < COMMAND_COUNT)
		commands[i].run(cl, line);
	else
		unknown_command(cl, word);
}

/* False when the client is to be closed. */
static bool run_lines(struct client *cl)
{
	while (!is_waiting(cl)) {
		struct span in = buffer_span(&cl->in);
		const char *end = memchr(in.p, '\n', in.n);
		if (!end)
			return in.n < CONTROL_REQUEST_MAX;
		size_t n = (size_t)(end - in.p);
		run_line(cl, (struct span){in.p, n});
		buffer_consume(&cl->in, n + 1);
	}
	return true;
}

static void on_reloaded(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct control *c = container_of(timer, struct control, reloaded);
	struct supervisor *s = c->supervisor;
	struct client *cl, *next;

	(void)loop;
	(void)events;
	/* Who asked during the last reload waits for the next one. */
	if (reload_busy(s))
		return;
	LIST_FOREACH_SAFE (cl, &c->clients, link, next) {
		if (!cl->waits_for_reload)
			continue;
		cJSON *object = outcome(s->reload.ok, s->reload.message);
		cJSON_AddNumberToObject(object, "generation", s->current ? s->current->number : 0);
		cJSON_AddItemToObject(object, "errors",
		    s->reload.errors ? cJSON_Duplicate(s->reload.errors, true)
				     : cJSON_CreateArray());
		cl->waits_for_reload = false;
		reply(cl, object);
		if (!run_lines(cl))
			client_close(cl);
	}
}

void control_upgrade_done(struct control *c, bool ok, const char *message)
{
	struct client *cl, *next;

	LIST_FOREACH_SAFE (cl, &c->clients, link, next) {
		if (!cl->waits_for_upgrade)
			continue;
		cl->waits_for_upgrade = false;
		reply(cl, outcome(ok, message));
		if (!run_lines(cl))
			client_close(cl);
	}
}

void control_retire(struct control *c, bool ok, const char *message)
{
	struct client *cl, *next;

	control_upgrade_done(c, ok, message);
	LIST_FOREACH_SAFE (cl, &c->clients, link, next) {
		if (is_waiting(cl))
			reply(cl, outcome(false,
				      cl->waits_for_reload
					  ? "another master serves now, and reloads by itself: "
					    "margay status shows how that went"
					  : "another master serves now: ask again"));
		cl->waits_for_reload = false;
		cl->keeper_request = 0;
		cl->replaced = NULL;
		/* Who connects again finds the other one. */
		cl->read_ended = true;
		if (!client_write(cl))
			client_close(cl);
		else
			client_update(cl);
	}
}

/* The keeper's answer, or NULL: there is none. Runs what the client asked for meanwhile. */
static void answer_report(struct client *cl, cJSON *report)
{
	struct supervisor *s = cl->control->supervisor;

	ev_timer_stop(s->loop, &cl->patience);
	cl->keeper_request = 0;
	if (cl->wants_upstreams)
		reply(cl, status_upstreams(s, report));
	else
		reply(cl, report ? report : outcome(false, "the keeper does not answer"));
	if (!run_lines(cl))
		client_close(cl);
}

static void on_patience(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	answer_report(container_of(timer, struct client, patience), NULL);
}

void control_report(struct control *c, uint32_t request, struct cJSON *report)
{
	struct client *cl;

	LIST_FOREACH (cl, &c->clients, link) {
		if (cl->keeper_request == request) {
			answer_report(cl, report);
			return;
		}
	}
	cJSON_Delete(report);
}

void control_replaced(struct control *c, const struct child *child, bool ok, const char *how)
{
	struct client *cl, *next;
	char message[160], name[32];

	child_name(child, name);
	snprintf(message, sizeof(message), "%s: %s", name, how);
	LIST_FOREACH_SAFE (cl, &c->clients, link, next) {
		/* What the old keeper did not come to answer is asked of the new one. */
		if (child->role == ROLE_KEEPER && cl->keeper_request != 0)
			keeping_ask(c->supervisor, cl->keeper_type, cl->keeper_request,
			    cl->keeper_upstream);
		if (cl->replaced != child)
			continue;
		cl->replaced = NULL;
		reply(cl, outcome(ok, message));
		if (!run_lines(cl))
			client_close(cl);
	}
}

void control_reload_done(struct control *c)
{
	ev_timer_start(c->supervisor->loop, &c->reloaded);
}

/* False when the client is gone. */
static bool client_read(struct client *cl)
{
	char block[READ_BLOCK];
	ssize_t n = recv(cl->io.fd, block, sizeof(block), 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0) {
		cl->read_ended = true;
		return is_waiting(cl) || buffer_length(&cl->out) > 0;
	}
	return buffer_append(&cl->in, block, (size_t)n, CONTROL_REQUEST_MAX + sizeof(block)) == 0 &&
	       run_lines(cl);
}

static bool client_write(struct client *cl)
{
	struct span out = buffer_span(&cl->out);

	if (out.n == 0)
		return true;
	ssize_t n = send(cl->io.fd, out.p, out.n, MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	buffer_consume(&cl->out, (size_t)n);
	return buffer_length(&cl->out) > 0 || !cl->read_ended || is_waiting(cl);
}

static void on_client(struct ev_loop *loop, ev_io *io, int events)
{
	struct client *cl = container_of(io, struct client, io);

	(void)loop;
	if (((events & EV_READ) && !client_read(cl)) || !client_write(cl))
		client_close(cl);
	else
		client_update(cl);
}

static void on_pause_over(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)events;
	ev_io_start(loop, &container_of(timer, struct control, pause)->io);
}

static void on_connect(struct ev_loop *loop, ev_io *io, int events)
{
	struct control *c = container_of(io, struct control, io);
	int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct client *cl;

	(void)events;
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE) { /* it would be readable for ever */
			ev_io_stop(loop, io);
			ev_timer_set(&c->pause, accept_pause, 0);
			ev_timer_start(loop, &c->pause);
		}
		return;
	}
	if (!credentials_trusted(fd) || c->client_count == CLIENTS_MAX ||
	    !(cl = calloc(1, sizeof(*cl)))) {
		close(fd);
		return;
	}
	cl->control = c;
	LIST_INSERT_HEAD(&c->clients, cl, link);
	c->client_count++;
	ev_timer_init(&cl->patience, on_patience, 0, 0);
	ev_io_init(&cl->io, on_client, fd, EV_READ);
	ev_io_start(loop, &cl->io);
}

/* Ours alone: the pid file's lock says that a socket which is there was left by the dead. */
static int listen_at(const char path[CONTROL_PATH_MAX])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, path, CONTROL_PATH_MAX);
	mode_t mask = umask(0177);
	unlink(path);
	bool failed = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		      listen(fd, CLIENTS_MAX) < 0;
	int error = -errno;
	umask(mask);
	if (!failed)
		return fd;
	close(fd);
	return error;
}

int control_open(struct supervisor *s, int fd, struct control **out)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->supervisor = s;
	LIST_INIT(&c->clients);
	if (!control_path(s->runtime_dir, CONTROL_SOCKET, c->path)) {
		free(c);
		return -ENAMETOOLONG;
	}
	if (fd < 0)
		fd = listen_at(c->path);
	if (fd < 0) {
		free(c);
		return fd;
	}
	ev_timer_init(&c->pause, on_pause_over, 0, 0);
	ev_io_init(&c->io, on_connect, fd, EV_READ);
	ev_io_start(s->loop, &c->io);
	ev_timer_init(&c->reloaded, on_reloaded, 0, 0);
	*out = c;
	return 0;
}

int control_fd(const struct control *c)
{
	return c->io.fd;
}

void control_pause(struct control *c, bool paused)
{
	if (paused)
		ev_io_stop(c->supervisor->loop, &c->io);
	else
		ev_io_start(c->supervisor->loop, &c->io);
	ev_timer_stop(c->supervisor->loop, &c->pause);
}

void control_close(struct control *c)
{
	/* Nobody new; those who wait for our end see it when the process ends. */
	struct client *cl;

	LIST_FOREACH (cl, &c->clients, link)
		(void)client_write(cl);
	while ((cl = LIST_FIRST(&c->clients)))
		client_close(cl);
	ev_io_stop(c->supervisor->loop, &c->io);
	ev_timer_stop(c->supervisor->loop, &c->reloaded);
	ev_timer_stop(c->supervisor->loop, &c->pause);
	close(c->io.fd);
	if (c->supervisor->owns)
		unlink(c->path);
	free(c);
}
