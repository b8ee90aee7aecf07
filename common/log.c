/*
 * log: see log.h.
 *
 * Lines are formatted straight into the collection buffer; a line that does not fit is written
 * without its last fields, never half a field. Pipes and terminals are shared with others and must
 * not be made non-blocking, so they are opened anew: the flag belongs to our own description then.
 * Where that is refused (a socket, another user's terminal) the sink is asked (poll) before each
 * write of at most PIPE_BUF bytes. One that is not ready loses lines, which are counted and told
 * later; a line that was cut short is ended before the next one starts.
 */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/decimal.h"
#include "common/plain.h"
#include "common/utf8.h"

enum {
	LOG_BUFFER = 64 * 1024,
	LOG_FLUSH_AT = 16 * 1024,
	LOG_LINE_MAX = 8 * 1024,
	LOG_PIPE_WRITE = PIPE_BUF, /* poll promises room for that much, and it is written whole */
};

enum log_sink { SINK_FILE, SINK_PIPE, SINK_SYSLOG };

struct log {
	int fd;
	enum log_sink sink;
	enum log_level level;
	enum log_format format;
	char *path; /* NULL: stderr or syslog */
	int pid;
	/* What stands between the time and the message, by format and level. */
	char origin[2][LOG_LEVEL_DEBUG + 1][96];
	time_t second; /* of `stamp` */
	char stamp[24];
	bool cut; /* what was written last ends inside a line */
	uint64_t dropped, dropped_told;
	size_t length;
	char buffer[LOG_BUFFER];
};

/* A line under construction. `full` latches: what comes after does not appear. */
struct line {
	char *p;
	size_t n, size;
	bool full;
};

static const struct {
	const char *name;
	int syslog; /* RFC 5424, 6.2.1 */
} levels[] = {{"error", 3}, {"warn", 4}, {"info", 6}, {"debug", 7}};

static void put(struct line *l, const char *bytes, size_t n)
{
	if (l->full || n > l->size - l->n) {
		l->full = true;
		return;
	}
	memcpy(l->p + l->n, bytes, n);
	l->n += n;
}

static void put_text(struct line *l, const char *text)
{
	put(l, text, strlen(text));
}

static void put_span(struct line *l, struct span s)
{
	put(l, s.p, s.n);
}

/* The character at the start of `s`, which is not plain. Its length in bytes. */
static size_t put_special(struct line *l, struct span s)
{
	unsigned char c = (unsigned char)s.p[0];
	size_t n = utf8_length((const unsigned char *)s.p, s.n);
	/* C1: a terminal may take these for escape sequences. */
	bool c1 = c == 0xc2 && n == 2 && (unsigned char)s.p[1] < 0xa0;
	char escape[8];

	if (c == '"' || c == '\\') {
		put(l, (char[]){'\\', (char)c}, 2);
	} else if (c1 || c < 0x20 || c == 0x7f) {
		snprintf(escape, sizeof(escape), "\\u%04x", c1 ? (unsigned char)s.p[1] : c);
		put_text(l, escape);
	} else if (n == 0) {
		put_text(l, "\xef\xbf\xbd");
		return 1;
	} else {
		put(l, s.p, n);
	}
	return n;
}

/* A string as both formats can carry it: quotes, backslashes, control characters and broken UTF-8
 * escaped. */
static void put_escaped(struct line *l, struct span s)
{
	for (;;) {
		size_t n = plain_length(s.p, s.n, PLAIN_STRING);
		if (n > 0)
			put(l, s.p, n);
		if (n == s.n)
			return;
		n += put_special(l, (struct span){s.p + n, s.n - n});
		s = (struct span){s.p + n, s.n - n};
	}
}

static void put_number(struct line *l, uint64_t value)
{
	char text[DECIMAL_TEXT];

	put_span(l, decimal(text, value));
}

static void put_value(struct line *l, const struct log_field *f, enum log_format format)
{
	char text[DECIMAL_TEXT];

	switch (f->kind) {
	case LOG_FIELD_INT:
		if (f->i < 0)
			put_span(l, SPAN("-"));
		put_number(l, f->i < 0 ? -(uint64_t)f->i : (uint64_t)f->i);
		return;
	case LOG_FIELD_UINT:
		put_number(l, f->u);
		return;
	case LOG_FIELD_MILLIS:
		put_number(l, f->u / 1000);
		put_span(l, SPAN("."));
		put_span(l, decimal_padded(text, f->u, 3));
		return;
	case LOG_FIELD_RAW:
		if (format == LOG_FORMAT_JSON) {
			put_span(l, f->span);
			return;
		}
		break;
	case LOG_FIELD_SPAN:
		break;
	}
	put_span(l, SPAN("\""));
	put_escaped(l, f->span);
	put_span(l, SPAN("\""));
}

/* RFC 3339 in UTC; the part down to the second is formatted once per second. */
static void put_time(struct log *log, struct line *l)
{
	struct timespec now;
	char text[DECIMAL_TEXT];

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != log->second) {
		struct tm tm;
		gmtime_r(&now.tv_sec, &tm);
		strftime(log->stamp, sizeof(log->stamp), "%Y-%m-%dT%H:%M:%S.", &tm);
		log->second = now.tv_sec;
	}
	put_text(l, log->stamp);
	put_span(l, decimal_padded(text, (uint64_t)now.tv_nsec / 1000, 6));
	put_span(l, SPAN("Z"));
}

static void put_json(struct log *log, struct line *l, enum log_level level, const char *message,
    const struct log_field *fields, size_t count)
{
	put_span(l, SPAN("{\"time\":\""));
	put_time(log, l);
	put_text(l, log->origin[LOG_FORMAT_JSON][level]);
	put_escaped(l, span_of(message));
	put_span(l, SPAN("\""));
	for (size_t i = 0; i < count; i++) {
		struct line before = *l;
		put_span(l, SPAN(",\""));
		put_text(l, fields[i].key);
		put_span(l, SPAN("\":"));
		put_value(l, &fields[i], LOG_FORMAT_JSON);
		if (l->full) /* whole fields only */
			*l = before;
	}
	l->size++; /* kept for it */
	put_span(l, SPAN("}"));
}

static void put_plain(struct log *log, struct line *l, enum log_level level, const char *message,
    const struct log_field *fields, size_t count)
{
	put_time(log, l);
	put_text(l, log->origin[LOG_FORMAT_TEXT][level]);
	put_escaped(l, span_of(message));
	for (size_t i = 0; i < count; i++) {
		struct line before = *l;
		put_span(l, SPAN(" "));
		put_text(l, fields[i].key);
		put_span(l, SPAN("="));
		put_value(l, &fields[i], LOG_FORMAT_TEXT);
		if (l->full)
			*l = before;
	}
}

static int syslog_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static bool is_ready(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLOUT};

	return poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT);
}

static size_t count_lines(const char *p, size_t n)
{
	size_t lines = 0;

	for (const char *end = p + n; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
		lines++;
	return lines;
}

/* At most a pipe's worth of whole lines. No line for a pipe is longer: see line_max. */
static size_t pipe_piece(const char *p, size_t n)
{
	if (n <= LOG_PIPE_WRITE)
		return n;
	const char *last = memrchr(p, '\n', LOG_PIPE_WRITE);
	return last ? (size_t)(last - p) + 1 : LOG_PIPE_WRITE;
}

static size_t line_max(const struct log *log)
{
	return log->sink == SINK_PIPE ? LOG_PIPE_WRITE : LOG_LINE_MAX;
}

/* End a line that was cut, so that the next one stands alone. */
static void end_cut_line(struct log *log)
{
	if (!log->cut || (log->sink == SINK_PIPE && !is_ready(log->fd)))
		return;
	log->cut = write(log->fd, "\n", 1) != 1;
}

static bool sink_write(struct log *log, const char *p, size_t n)
{
	if (n > 0)
		end_cut_line(log);
	while (n > 0 && !log->cut) {
		if (log->sink == SINK_PIPE && !is_ready(log->fd))
			break;
		size_t piece = log->sink == SINK_PIPE ? pipe_piece(p, n) : n;
		ssize_t written = write(log->fd, p, piece);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			break;
		p += written;
		n -= (size_t)written;
		if (p[-1] != '\n' && log->sink == SINK_PIPE) {
			log->cut = true;
			break;
		}
	}
	log->dropped += count_lines(p, n);
	return n == 0;
}

void log_flush(struct log *log)
{
	bool took = sink_write(log, log->buffer, log->length);
	char text[128];

	log->length = 0;
	if (!took || log->dropped == log->dropped_told || log->sink == SINK_SYSLOG)
		return;
	struct line l = {text, 0, sizeof(text), false};
	const struct log_field lost = LOG_UINT("lines", log->dropped - log->dropped_told);
	if (log->format == LOG_FORMAT_JSON)
		put_text(
		    &l, "{\"level\":\"warn\",\"message\":\"log lines were dropped\",\"lines\":");
	else
		put_text(&l, "warn log lines were dropped lines=");
	put_value(&l, &lost, LOG_FORMAT_TEXT);
	put_text(&l, log->format == LOG_FORMAT_JSON ? "}\n" : "\n");
	uint64_t told = log->dropped;
	if (sink_write(log, text, l.n))
		log->dropped_told = told;
	else
		log->dropped = told; /* the note itself is no line of anybody's */
}

/* RFC 3164 as /dev/log takes it; facility daemon. */
static void syslog_send(struct log *log, enum log_level level, const char *line, size_t n)
{
	char datagram[LOG_LINE_MAX + 64];

	int head = snprintf(
	    datagram, sizeof(datagram), "<%d>margay[%d]: ", 3 * 8 + levels[level].syslog, log->pid);
	if (n > sizeof(datagram) - (size_t)head)
		n = sizeof(datagram) - (size_t)head;
	memcpy(datagram + head, line, n);
	if (log->fd < 0)
		log->fd = syslog_connect();
	if (log->fd >= 0 &&
	    send(log->fd, datagram, (size_t)head + n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return;
	if (log->fd >= 0 && errno != EAGAIN) {
		close(log->fd);
		log->fd = -1;
	}
	log->dropped++;
}

bool log_enabled(const struct log *log, enum log_level level)
{
	return level <= log->level;
}

void log_write(struct log *log, enum log_level level, const char *message,
    const struct log_field *fields, size_t count)
{
	if (!log_enabled(log, level))
		return;
	if (LOG_BUFFER - log->length < LOG_LINE_MAX)
		log_flush(log);
	/* Two bytes are kept for the closing brace and the line end. */
	struct line l = {log->buffer + log->length, 0, line_max(log) - 2, false};
	if (log->format == LOG_FORMAT_JSON && log->sink != SINK_SYSLOG)
		put_json(log, &l, level, message, fields, count);
	else
		put_plain(log, &l, level, message, fields, count);
	if (log->sink == SINK_SYSLOG) {
		syslog_send(log, level, l.p, l.n);
		return;
	}
	l.p[l.n++] = '\n';
	log->length += l.n;
	if (level <= LOG_LEVEL_WARN || log->length >= LOG_FLUSH_AT)
		log_flush(log);
}

static enum log_sink sink_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? SINK_FILE : SINK_PIPE;
}

/* The same pipe or terminal with a description of our own, which may be non-blocking; `fd` as it is
 * where that can't be had. */
static int own_description(int fd)
{
	char path[32];

	if (sink_of(fd) == SINK_FILE)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int own = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (own < 0)
		return fd;
	close(fd);
	return own;
}

static int open_sink(const char *path)
{
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640)
		      : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	return fd < 0 ? -errno : own_description(fd);
}

int log_open(const struct log_options *options, const char *process, struct log **out)
{
	bool syslog = strcmp(options->file, "syslog") == 0;
	bool is_stderr = strcmp(options->file, "stderr") == 0;
	struct log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	if (!syslog && !is_stderr && !(log->path = strdup(options->file))) {
		free(log);
		return -ENOMEM;
	}
	log->level = options->level;
	log->format = options->format;
	log->fd = syslog ? syslog_connect() : open_sink(log->path);
	if (log->fd < 0) {
		int error = log->fd;
		free(log->path);
		free(log);
		return error;
	}
	log->sink = syslog ? SINK_SYSLOG : sink_of(log->fd);
	log->pid = getpid();
	log_set_process(log, process);
	*out = log;
	return 0;
}

void log_set_process(struct log *log, const char *process)
{
	/* Lines collected before a fork are the parent's to write, and its connection to syslog its
	 * own. */
	if (log->pid != getpid()) {
		log->length = 0;
		log->dropped = log->dropped_told = 0;
		if (log->sink == SINK_SYSLOG && log->fd >= 0) {
			close(log->fd);
			log->fd = -1;
		}
	}
	log->pid = getpid();
	for (int level = 0; level <= LOG_LEVEL_DEBUG; level++) {
		snprintf(log->origin[LOG_FORMAT_TEXT][level], sizeof(log->origin[0][0]),
		    " %s [%.31s] ", levels[level].name, process);
		snprintf(log->origin[LOG_FORMAT_JSON][level], sizeof(log->origin[0][0]),
		    "\",\"level\":\"%s\",\"process\":\"%.31s\",\"pid\":%d,\"message\":\"",
		    levels[level].name, process, log->pid);
	}
}

void log_configure(struct log *log, enum log_level level, enum log_format format)
{
	log->level = level;
	log->format = format;
}

int log_reopen(struct log *log)
{
	if (!log->path)
		return 0;
	int fd = open_sink(log->path);
	if (fd < 0)
		return fd;
	log_replace_fd(log, fd);
	return 0;
}

int log_fd(const struct log *log)
{
	return log->sink == SINK_SYSLOG ? -1 : log->fd;
}

void log_replace_fd(struct log *log, int fd)
{
	if (fd < 0)
		return;
	log_flush(log);
	if (log->fd >= 0)
		close(log->fd);
	log->fd = own_description(fd);
	log->sink = sink_of(log->fd);
	log->cut = false;
}

uint64_t log_dropped(const struct log *log)
{
	return log->dropped;
}

void log_close(struct log *log)
{
	log_flush(log);
	if (log->fd >= 0)
		close(log->fd);
	free(log->path);
	free(log);
}
