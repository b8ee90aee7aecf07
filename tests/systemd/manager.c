/*
 * manager: a service manager in small, for tests: what systemd does for one service of
 * Type=notify with a socket unit and a store of descriptors (sd_notify(3), sd_listen_fds(3)).
 *
 *   margay-manager NOTIFY_SOCKET [socket:NAME=ADDRESS:PORT | unix:NAME=PATH | stored:NAME=FILE]...
 *       -- COMMAND...
 *
 * Prints a line for each thing that happens; each line on stdin is an order:
 *   start   start the command, with the sockets and the store
 *   crash   SIGKILL to it and to all that came of it, as KillMode=mixed does
 *   stop    SIGTERM to it
 *   store   print the names in the store
 * The end of stdin is `crash` and the end. Like systemd it hears nobody but the main process
 * (NotifyAccess=main), drops what it has already, and gives the store back newest first.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS_MAX = 1024, LABEL_MAX = 256, FDS_MAX = 253, TEXT_MAX = 4096 };

struct row {
	int fd;
	char name[LABEL_MAX];
};

struct list {
	struct row rows[ROWS_MAX];
	size_t count;
};

static struct list sockets, store;
static pid_t main_pid, started;
static const char *notify_path;
static char **command;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void list_add(struct list *l, const char *name, int fd)
{
	if (l->count == ROWS_MAX)
		fail("too many descriptors");
	struct row *row = &l->rows[l->count++];
	row->fd = fd;
	snprintf(row->name, sizeof(row->name), "%s", name);
}

/* --- what it is started with --- */

static int listen_tcp(const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	char host[64];
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(host, sizeof(host), "%.*s", colon ? (int)(colon - text) : 0, text);
	if (!colon || inet_pton(AF_INET, host, &in.sin_addr) != 1)
		fail(text);
	in.sin_port = htons((uint16_t)atoi(colon + 1));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(fd, 4096) < 0)
		fail(text);
	return fd;
}

static int open_unix(const char *path, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int on = 1, fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 8) < 0) ||
	    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		fail(path);
	return fd;
}

static void take_argument(const char *argument)
{
	const char *colon = strchr(argument, ':'), *equals = strchr(argument, '=');
	char name[LABEL_MAX];

	if (!colon || !equals || equals < colon)
		fail(argument);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - colon - 1), colon + 1);
	if (argument[0] == 's' && argument[1] == 'o')
		list_add(&sockets, name, listen_tcp(equals + 1));
	else if (argument[0] == 'u')
		list_add(&sockets, name, open_unix(equals + 1, SOCK_STREAM));
	else
		list_add(&store, name, open(equals + 1, O_RDWR | O_CLOEXEC));
}

/* --- the service --- */

/* All descriptors to 3 and on; what is in their way goes out of it first. */
static void place_fds(const struct row *const *rows, size_t count)
{
	int high[2 * ROWS_MAX];

	for (size_t i = 0; i < count; i++)
		high[i] = fcntl(rows[i]->fd, F_DUPFD_CLOEXEC, 3 + (int)count);
	for (size_t i = 0; i < count; i++) {
		if (high[i] < 0 || dup2(high[i], 3 + (int)i) < 0)
			_exit(127);
	}
}

static void run_service(void)
{
	static char names[2 * ROWS_MAX * LABEL_MAX];
	const struct row *rows[2 * ROWS_MAX];
	char number[24];
	sigset_t none;
	size_t count = 0;

	for (size_t i = 0; i < sockets.count; i++)
		rows[count++] = &sockets.rows[i];
	for (size_t i = store.count; i-- > 0;)
		rows[count++] = &store.rows[i];
	for (size_t i = 0, n = 0; i < count; i++)
		n += (size_t)snprintf(
		    names + n, sizeof(names) - n, "%s%s", i ? ":" : "", rows[i]->name);
	setenv("NOTIFY_SOCKET", notify_path, 1);
	if (count > 0) {
		snprintf(number, sizeof(number), "%zu", count);
		setenv("LISTEN_FDS", number, 1);
		setenv("LISTEN_FDNAMES", names, 1);
		snprintf(number, sizeof(number), "%d", (int)getpid());
		setenv("LISTEN_PID", number, 1);
	}
	place_fds(rows, count);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(command[0], command);
	_exit(127);
}

static void start(void)
{
	main_pid = started = fork();
	if (started == 0)
		run_service();
	printf("started %d\n", (int)started);
}

/* SIGKILL to all that is below a process; those who lose their parent become ours. */
static void kill_below(pid_t pid)
{
	char path[64], line[65536];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(line, 1, sizeof(line) - 1, f) : 0;
	if (f)
		fclose(f);
	line[n] = '\0';
	char *rest;
	for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		kill_below(atoi(word));
		kill(atoi(word), SIGKILL);
	}
}

static void crash(void)
{
	if (main_pid > 0)
		kill(main_pid, SIGKILL);
	do {
		kill_below(getpid());
		while (waitpid(-1, NULL, WNOHANG) > 0)
			continue;
	} while (waitpid(-1, NULL, WNOHANG) == 0);
	main_pid = started = 0;
	printf("crashed\n");
}

static void print_store(void)
{
	printf("store");
	for (size_t i = 0; i < store.count; i++)
		printf(" %s", store.rows[i].name);
	printf("\n");
}

/* --- what it says --- */

static bool is_same(int a, int b)
{
	struct stat one, other;

	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_ino == other.st_ino &&
	       one.st_dev == other.st_dev;
}

static void keep(const char *name, int fd)
{
	for (size_t i = 0; i < store.count; i++) {
		if (is_same(store.rows[i].fd, fd)) {
			close(fd);
			return;
		}
	}
	list_add(&store, name, fd);
}

static void drop(const char *name)
{
	for (size_t i = store.count; i-- > 0;) {
		if (strcmp(store.rows[i].name, name) != 0)
			continue;
		close(store.rows[i].fd);
		memmove(&store.rows[i], &store.rows[i + 1],
		    (--store.count - i) * sizeof(store.rows[0]));
	}
}

/* The value of a line, or NULL. */
static const char *value_of(const char *text, const char *key, char out[LABEL_MAX])
{
	size_t n = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && line[n] == '=') {
			snprintf(
			    out, LABEL_MAX, "%.*s", (int)strcspn(line + n + 1, "\n"), line + n + 1);
			return out;
		}
	}
	return NULL;
}

static void obey(char *text, const int *fds, size_t count)
{
	char name[LABEL_MAX] = "stored", value[LABEL_MAX];

	value_of(text, "FDNAME", name);
	for (size_t i = 0; i < count; i++) {
		if (value_of(text, "FDSTORE", value))
			keep(name, fds[i]);
		else
			close(fds[i]);
	}
	if (value_of(text, "FDSTOREREMOVE", value))
		drop(name);
	if (value_of(text, "MAINPID", value))
		main_pid = atoi(value);
	for (char *c = text; *c; c++)
		*c = *c == '\n' ? '|' : *c;
	printf("told %s", text);
	if (count > 0)
		printf(" +%zu", count);
	printf("\n");
}

static void hear(int socket)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char text[TEXT_MAX];
	struct iovec line = {text, sizeof(text) - 1};
	struct msghdr message = {.msg_iov = &line,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	struct ucred sender = {0};
	int fds[FDS_MAX];
	size_t count = 0;

	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	if (n < 0)
		fail("recvmsg");
	text[n] = '\0';
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&sender, CMSG_DATA(c), sizeof(sender));
		} else if (c->cmsg_type == SCM_RIGHTS) {
			count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(c), count * sizeof(int));
		}
	}
	if (sender.pid == main_pid) {
		obey(text, fds, count);
		return;
	}
	while (count > 0)
		close(fds[--count]);
	printf("not from the main process: %.*s\n", (int)strcspn(text, "\n"), text);
}

/* --- orders --- */

static void order(const char *word)
{
	if (strcmp(word, "start") == 0)
		start();
	else if (strcmp(word, "crash") == 0)
		crash();
	else if (strcmp(word, "stop") == 0)
		kill(main_pid, SIGTERM);
	else if (strcmp(word, "store") == 0)
		print_store();
}

/* False at the end of stdin. */
static bool take_orders(void)
{
	static char text[256];
	static size_t length;
	ssize_t n = read(0, text + length, sizeof(text) - 1 - length);
	char *end;

	if (n <= 0)
		return false;
	length += (size_t)n;
	text[length] = '\0';
	while ((end = strchr(text, '\n'))) {
		*end = '\0';
		order(text);
		length -= (size_t)(end + 1 - text);
		memmove(text, end + 1, length + 1);
	}
	return true;
}

static void reap(int signals)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (read(signals, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == main_pid || pid == started)
			printf("%s %d\n", pid == main_pid ? "ended" : "left",
			    WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
		if (pid == main_pid)
			main_pid = 0;
	}
}

int main(int argc, char **argv)
{
	sigset_t child;
	int i = 2;

	if (argc < 4)
		return 2;
	notify_path = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		take_argument(argv[i]);
	command = argv + i + 1;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	struct pollfd fds[] = {{.fd = 0, .events = POLLIN},
	    {.fd = open_unix(notify_path, SOCK_DGRAM), .events = POLLIN},
	    {.fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN}};
	start();
	while (poll(fds, 3, -1) > 0 || errno == EINTR) {
		if (fds[1].revents & POLLIN)
			hear(fds[1].fd);
		else if (fds[2].revents & POLLIN)
			reap(fds[2].fd);
		else if (fds[0].revents && !take_orders())
			break;
	}
	crash();
	return 0;
}
