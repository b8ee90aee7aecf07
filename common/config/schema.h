/*
 * schema: every key of the configuration, in one table.
 *
 * The parser, `margay check --keys`, docs/configuration.md and the test of etc/margay.yaml all
 * follow it. A row with a type other than SETTING_STRUCTURE is parsed by its type alone; what has a
 * shape of its own is in parser.c.
 */
#ifndef MARGAY_COMMON_CONFIG_SCHEMA_H
#define MARGAY_COMMON_CONFIG_SCHEMA_H

#include <stddef.h>

#include "common/config/config.h"

enum setting_type {
	SETTING_STRUCTURE, /* a mapping or list, or what is in it: explained here, parsed by hand */
	SETTING_TEXT,      /* char * */
	SETTING_DURATION,  /* double, seconds */
	SETTING_SIZE,      /* size_t, bytes */
	SETTING_COUNT,     /* unsigned */
	SETTING_BOOL,
	SETTING_WORKERS,    /* unsigned; auto or a number */
	SETTING_LOG_LEVEL,  /* enum log_level */
	SETTING_LOG_FORMAT, /* enum log_format */
	SETTING_PATH,       /* char *; absolute, because a daemon has no directory */
	SETTING_LOG_FILE,   /* char *; the same, or stderr or syslog */
};

struct setting {
	const char *key; /* dotted path */
	enum setting_type type;
	size_t offset;     /* in struct config; of a stdio upstream's keys in struct config_stdio */
	const char *value; /* default as an operator would write it; NULL: none */
	const char *low,
	    *high; /* bounds, inclusive; NULL: none. A low of "0" means that 0 switches it off */
	const char *help;
};

extern const struct setting settings[];
extern const size_t setting_count;

/* What a value of that type looks like, for messages: "a duration". */
const char *setting_type_name(enum setting_type type);
/* Where the keys of a stdio upstream begin. */
#define SETTING_STDIO "upstreams.NAME.stdio."

/*
 * Convert `text` and store it in the struct that holds the setting's offset. 0; -EINVAL: no such
 * value; -ERANGE: out of bounds; -ENOMEM. Replaces (and frees) an earlier text.
 */
int setting_store(const struct setting *setting, const char *text, void *into) MUST_CHECK;
/* Store the defaults of all settings with a key that begins with `prefix`, or, when it is empty,
 * of those that belong to struct config. 0 or -ENOMEM. */
int setting_defaults(const char *prefix, void *into) MUST_CHECK;
/* What to write instead. */
const char *setting_remedy(const struct setting *setting);

#endif
