/* title: see title.h. The area is the one global: there is one argv per process. */
#include "common/title.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	char *start;
	size_t size;
} area;

/* Extend the area by a string that stands right behind it. */
static char *extended(char *end, const char *string)
{
	return string == end ? end + strlen(string) + 1 : end;
}

void title_init(int argc, char **argv)
{
	char *end = argv[0];
	size_t count = 0;

	for (int i = 0; i < argc; i++)
		end = extended(end, argv[i]);
	while (environ[count])
		count++;
	char **moved = calloc(count + 1, sizeof(*moved));
	for (size_t i = 0; moved && i < count; i++) {
		end = extended(end, environ[i]);
		moved[i] = strdup(environ[i]);
		if (!moved[i])
			return;
	}
	/* argv itself is still read after this: options point into it until the first title is set.
	 */
	if (!moved)
		return;
	environ = moved;
	area.start = argv[0];
	area.size = (size_t)(end - argv[0]);
}

void title_set(const char *format, ...)
{
	char text[128];
	va_list args;

	if (area.size == 0)
		return;
	int prefix = snprintf(text, sizeof(text), "margay: ");
	va_start(args, format);
	vsnprintf(text + prefix, sizeof(text) - (size_t)prefix, format, args);
	va_end(args);
	size_t n = strlen(text) < area.size - 1 ? strlen(text) : area.size - 1;
	memset(area.start, 0, area.size);
	memcpy(area.start, text, n);
}
