/* log: lines that cannot be forged, whole fields, and no line lost silently. */
#include "common/log.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static char path[64];

static struct log *open_log(enum log_format format, enum log_level level)
{
	struct log *log;

	snprintf(path, sizeof(path), "/tmp/margay-log-test-%d", getpid());
	unlink(path);
	struct log_options options = {.level = level, .format = format, .file = path};
	cr_assert_eq(log_open(&options, "test", &log), 0);
	return log;
}

static size_t read_log(char *out, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, out, size - 1);

	cr_assert_geq(n, 0);
	close(fd);
	out[n] = '\0';
	return (size_t)n;
}

Test(log, json_lines_carry_anything_and_stay_one_line)
{
	static const char evil[] = "a\"b\\c\n{\"level\":\"error\"}\x01\xff\xc3\xa9";
	char text[4096];
	struct log *log = open_log(LOG_FORMAT_JSON, LOG_LEVEL_INFO);

	LOG(log, LOG_LEVEL_INFO, "request", LOG_SPAN("evil", SPAN(evil)), LOG_INT("i", -5),
	    LOG_UINT("u", UINT64_MAX), LOG_MILLIS("ms", 1234567),
	    LOG_RAW("id", SPAN("12345678901234567890")));
	LOG(log, LOG_LEVEL_DEBUG, "not said", LOG_INT("i", 1));
	log_close(log);
	size_t n = read_log(text, sizeof(text));
	cr_assert_eq(strchr(text, '\n'), text + n - 1, "one line: %s", text);
	cJSON *json = cJSON_Parse(text);
	cr_assert_not_null(json, "%s", text);
	cr_assert_str_eq(cJSON_GetObjectItem(json, "message")->valuestring, "request");
	cr_assert_str_eq(cJSON_GetObjectItem(json, "evil")->valuestring,
	    "a\"b\\c\n{\"level\":\"error\"}\x01\xef\xbf\xbd\xc3\xa9");
	cr_assert_not_null(strstr(text, "\"i\":-5,\"u\":18446744073709551615,\"ms\":1234.567,"
					"\"id\":12345678901234567890}"));
	cJSON_Delete(json);
	unlink(path);
}

Test(log, a_line_that_is_too_long_loses_whole_fields_only)
{
	static char big[20000];
	char text[16384];
	struct log *log = open_log(LOG_FORMAT_JSON, LOG_LEVEL_INFO);

	memset(big, '"', sizeof(big));
	LOG(log, LOG_LEVEL_INFO, "request", LOG_SPAN("big", ((struct span){big, sizeof(big)})),
	    LOG_INT("after", 7));
	log_close(log);
	read_log(text, sizeof(text));
	cJSON *json = cJSON_Parse(text);
	cr_assert_not_null(json, "%s", text);
	cr_assert_null(cJSON_GetObjectItem(json, "big"));
	cr_assert_eq(cJSON_GetObjectItem(json, "after")->valueint, 7);
	cJSON_Delete(json);
	unlink(path);
}

Test(log, text_lines_escape_control_characters)
{
	char text[1024];
	struct log *log = open_log(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);

	LOG(log, LOG_LEVEL_WARN, "look", LOG_STR("at", "\x1b[31m\nme"));
	read_log(text, sizeof(text));
	cr_assert_not_null(
	    strstr(text, " warn [test] look at=\"\\u001b[31m\\u000ame\"\n"), "%s", text);
	log_close(log);
	unlink(path);
}

Test(log, a_pipe_that_nobody_reads_loses_lines_and_says_how_many)
{
	int ends[2];
	char text[65536];
	struct log *log = open_log(LOG_FORMAT_JSON, LOG_LEVEL_INFO);

	cr_assert_eq(pipe(ends), 0);
	log_replace_fd(log, ends[1]);
	for (int i = 0; i < 5000; i++)
		LOG(log, LOG_LEVEL_INFO, "line", LOG_INT("number", i));
	log_flush(log);
	cr_assert_gt(log_dropped(log), 0, "it did not block");
	uint64_t dropped = log_dropped(log);
	cr_assert_gt(read(ends[0], text, sizeof(text)), 0);
	LOG_TEXT(log, LOG_LEVEL_WARN, "after");
	ssize_t n = read(ends[0], text, sizeof(text) - 1);
	cr_assert_gt(n, 0);
	text[n] = '\0';
	char expected[64];
	snprintf(expected, sizeof(expected), "\"lines\":%llu}", (unsigned long long)dropped);
	cr_assert_not_null(strstr(text, expected), "%s in %s", expected, text);
	log_close(log);
	close(ends[0]);
	unlink(path);
}

/* Criterion ends the test when a write blocks. */
Test(log, a_long_line_does_not_block_on_a_pipe_with_one_free_page, .timeout = 10)
{
	static char page[4096], big[7000];
	int ends[2];
	struct log *log = open_log(LOG_FORMAT_JSON, LOG_LEVEL_INFO);

	cr_assert_eq(pipe(ends), 0);
	int size = fcntl(ends[1], F_SETPIPE_SZ, 16 * (int)sizeof(page));
	cr_assert_gt(size, 0);
	for (int i = 1; i < size / (int)sizeof(page); i++)
		cr_assert_eq(write(ends[1], page, sizeof(page)), sizeof(page));
	log_replace_fd(log, ends[1]);
	memset(big, 'x', sizeof(big));
	LOG(log, LOG_LEVEL_WARN, "long", LOG_SPAN("big", ((struct span){big, sizeof(big)})),
	    LOG_INT("after", 7));
	log_close(log);
	close(ends[0]);
	unlink(path);
}

/* What has come through a terminal: the kernel brings it a little later than it is written. */
static size_t drain(int master, char *text, size_t size)
{
	struct pollfd ready = {.fd = master, .events = POLLIN};
	size_t n = 0;

	for (ssize_t got; poll(&ready, 1, 20) > 0 && (got = read(master, text + n, size - n)) > 0;)
		n += (size_t)got;
	return n;
}

Test(log, a_terminal_that_nobody_reads_does_not_block, .timeout = 10)
{
	static char text[1 << 20];
	int master, slave;
	struct termios raw;
	size_t n = 0;
	struct log *log = open_log(LOG_FORMAT_JSON, LOG_LEVEL_INFO);

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	cr_assert_eq(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	cr_assert_eq(tcsetattr(slave, TCSANOW, &raw), 0);
	int keep = dup(slave), flags = fcntl(keep, F_GETFL);
	cr_assert_eq(fcntl(master, F_SETFL, O_NONBLOCK), 0);
	log_replace_fd(log, slave);
	for (int i = 0; i < 20000; i++)
		LOG(log, LOG_LEVEL_INFO, "line", LOG_INT("number", i));
	cr_assert_gt(log_dropped(log), 0);
	cr_assert_eq(fcntl(keep, F_GETFL), flags, "the others' descriptor is as it was");
	char *after;
	do {
		n += drain(master, text + n, sizeof(text) - 1 - n);
		LOG_TEXT(log, LOG_LEVEL_WARN, "after");
		n += drain(master, text + n, sizeof(text) - 1 - n);
		text[n] = '\0';
	} while (!(after = strstr(text, "\"message\":\"after\"")));
	while (after > text && after[-1] != '\n')
		after--;
	cr_assert(
	    strncmp(after, "{\"time\":", 8) == 0, "it stands on a line of its own: %s", after);
	log_close(log);
	close(keep);
	close(master);
	unlink(path);
}

Test(log, reopens_its_file_after_rotation)
{
	char text[1024], rotated[80];
	struct log *log = open_log(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);

	snprintf(rotated, sizeof(rotated), "%s.1", path);
	LOG_TEXT(log, LOG_LEVEL_WARN, "before");
	cr_assert_eq(rename(path, rotated), 0);
	cr_assert_eq(log_reopen(log), 0);
	LOG_TEXT(log, LOG_LEVEL_WARN, "after");
	read_log(text, sizeof(text));
	cr_assert_not_null(strstr(text, "after"));
	cr_assert_null(strstr(text, "before"));
	log_close(log);
	unlink(path);
	unlink(rotated);
}
