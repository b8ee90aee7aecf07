/*
 * log: structured lines to a file descriptor or to syslog, as JSON or as text.
 *
 * A line is a level, a message, and fields. Lines are collected in a bounded buffer and written by
 * log_flush (the owner calls it from its event loop and before it exits); warnings and errors are
 * written at once. Field values are escaped, so nothing that came from outside can forge a line.
 * Callers never pass tokens, whole session ids or payloads. The descriptor belongs to the log; a
 * write that would block drops the line and counts it.
 */
#ifndef MARGAY_COMMON_LOG_H
#define MARGAY_COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/attributes.h"
#include "common/span.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum log_field_kind {
	LOG_FIELD_SPAN,
	LOG_FIELD_INT,
	LOG_FIELD_UINT,
	LOG_FIELD_MILLIS,
	LOG_FIELD_RAW
};

struct log_field {
	const char *key; /* literal, lower_snake */
	enum log_field_kind kind;
	union {
		struct span span;
		int64_t i;
		uint64_t u; /* for LOG_FIELD_MILLIS: microseconds, written as milliseconds with
			       three decimals */
	};
};

#define LOG_STR(name, string) \
	((struct log_field){.key = (name), .kind = LOG_FIELD_SPAN, .span = span_of(string)})
#define LOG_SPAN(name, value) \
	((struct log_field){.key = (name), .kind = LOG_FIELD_SPAN, .span = (value)})
/* A span that already is valid JSON (a JSON-RPC id): written as it is, in JSON format. */
#define LOG_RAW(name, value) \
	((struct log_field){.key = (name), .kind = LOG_FIELD_RAW, .span = (value)})
#define LOG_INT(name, value) \
	((struct log_field){.key = (name), .kind = LOG_FIELD_INT, .i = (value)})
#define LOG_UINT(name, value) \
	((struct log_field){.key = (name), .kind = LOG_FIELD_UINT, .u = (value)})
#define LOG_MILLIS(name, micros) \
	((struct log_field){.key = (name), .kind = LOG_FIELD_MILLIS, .u = (micros)})
/* errno as text. */
#define LOG_ERRNO(error) LOG_STR("error", strerror(error))

struct log;

struct log_options {
	enum log_level level;
	enum log_format format;
	const char *file; /* path; "stderr"; "syslog" */
};

/*
 * Open a log. `process` ("master", "worker 2") is copied into every line. 0 or -errno; *out is the
 * caller's, freed by log_close. In a forked child call log_set_process first.
 */
int log_open(const struct log_options *options, const char *process, struct log **out) MUST_CHECK;
void log_set_process(struct log *log, const char *process);
/* Take over level and format of a new configuration. */
void log_configure(struct log *log, enum log_level level, enum log_format format);
/* Open the same file again (after rotation): 0 or -errno; the old one stays in use on failure. */
int log_reopen(struct log *log) MUST_CHECK;
/* The descriptor in use, to be sent to other processes after log_reopen; -1 for syslog. */
int log_fd(const struct log *log);
/* Write to `fd` from now on (takes ownership): how a worker, which opens no files, follows a
 * reopen. */
void log_replace_fd(struct log *log, int fd);
bool log_enabled(const struct log *log, enum log_level level);
void log_write(struct log *log, enum log_level level, const char *message,
    const struct log_field *fields, size_t count);
void log_flush(struct log *log);
/* Lines lost because the sink would have blocked. */
uint64_t log_dropped(const struct log *log);
void log_close(struct log *log);

/* LOG(log, LOG_LEVEL_WARN, "upstream connect failed", LOG_STR("upstream", name), LOG_ERRNO(error));
 */
#define LOG(log, level, message, ...)                                         \
	do {                                                                  \
		if (log_enabled((log), (level))) {                            \
			const struct log_field log_fields_[] = {__VA_ARGS__}; \
			log_write((log), (level), (message), log_fields_,     \
			    sizeof(log_fields_) / sizeof(log_fields_[0]));    \
		}                                                             \
	} while (0)

/* The same without fields. */
#define LOG_TEXT(log, level, message) log_write((log), (level), (message), NULL, 0)

#endif
