/* reference: see reference.h. */
#include "common/config/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_MAX_LENGTH = 4096 };

static int expand_env(const char *name, struct buffer *out, const char **problem)
{
	const char *value = getenv(name);

	*problem = "the variable is not set";
	return value ? buffer_append(out, value, strlen(value), REFERENCE_MAX) : -EINVAL;
}

/* Only regular files: anything else could keep us waiting. */
static int expand_file(const char *path, struct buffer *out, const char **problem)
{
	char text[REFERENCE_MAX];
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	*problem = strerror(errno);
	if (fd < 0)
		return -EINVAL;
	*problem = "is no regular file";
	bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
	ssize_t n = regular ? read(fd, text, sizeof(text)) : -1;
	close(fd);
	if (n < 0)
		return -EINVAL;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
		n--;
	*problem = "holds a NUL";
	if (memchr(text, '\0', (size_t)n))
		return -EINVAL;
	return buffer_append(out, text, (size_t)n, REFERENCE_MAX);
}

static const struct {
	const char *prefix;
	int (*expand)(const char *name, struct buffer *out, const char **problem);
} kinds[] = {
    {"env:", expand_env},
    {"file:", expand_file},
};

/* What stands between the braces. */
static int expand_one(const char *inside, struct buffer *out, const char **problem)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i].prefix);
		if (strncmp(inside, kinds[i].prefix, n) == 0)
			return kinds[i].expand(inside + n, out, problem);
	}
	*problem = "is no reference; write ${env:NAME}, ${file:PATH}, or $${ for ${ itself";
	return -EINVAL;
}

int reference_expand(const char *text, struct buffer *out, char *why, size_t size)
{
	char inside[NAME_MAX_LENGTH];
	const char *problem = "is too long";

	while (*text) {
		const char *dollar = strstr(text, "${");
		size_t plain = dollar ? (size_t)(dollar - text) : strlen(text);
		bool escaped = dollar && plain > 0 && dollar[-1] == '$';
		int error = buffer_append(out, text, plain - escaped, REFERENCE_MAX);
		if (error || !dollar)
			return error;
		text = dollar;
		if (escaped) {
			error = buffer_append(out, "${", 2, REFERENCE_MAX);
			text += 2;
			if (error)
				return error;
			continue;
		}
		size_t n = strcspn(text + 2, "}");
		if (text[2 + n] == '\0' || n >= sizeof(inside)) {
			snprintf(why, size, "`%.64s` has no closing brace", text);
			return -EINVAL;
		}
		memcpy(inside, text + 2, n);
		inside[n] = '\0';
		error = expand_one(inside, out, &problem);
		if (error && error != -ENOMEM) {
			snprintf(why, size, "`${%.128s}`: %s", inside, problem);
			return -EINVAL;
		}
		if (error)
			return error;
		text += n + 3;
	}
	return 0;
}

int reference_escape(const char *text, struct buffer *out)
{
	while (*text) {
		const char *brace = strstr(text, "${");
		size_t n = brace ? (size_t)(brace - text) : strlen(text);
		int error = buffer_append(out, text, n, REFERENCE_MAX);
		if (!error && brace)
			error = buffer_append(out, "$${", 3, REFERENCE_MAX);
		if (error)
			return error;
		text += n + (brace ? 2 : 0);
	}
	return buffer_append(out, "", 1, REFERENCE_MAX);
}
