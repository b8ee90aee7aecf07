/* endpoint: see endpoint.h. */
#include "worker/bridge/endpoint.h"

static const struct span scheme = {"http://", 7};

static bool begins(struct span text, struct span with)
{
	return text.n >= with.n && span_equal_nocase((struct span){text.p, with.n}, with);
}

static bool is_clean(struct span text)
{
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] <= ' ' || text.p[i] >= 0x7f || text.p[i] == '\\')
			return false;
	}
	return text.n > 0 && text.n < ENDPOINT_MAX;
}

/* What comes before a relative reference: the stream's path up to its last slash, or all of it
 * before a query. */
static struct span base_of(const struct config_upstream *stream, struct span data)
{
	struct span target = span_of(stream->target);
	const char *query = memchr(target.p, '?', target.n);
	struct span path = {target.p, query ? (size_t)(query - target.p) : target.n};

	if (data.p[0] == '?')
		return path;
	while (path.n > 0 && path.p[path.n - 1] != '/')
		path.n--;
	return path;
}

const char *endpoint_resolve(
    const struct config_upstream *stream, struct span data, struct buffer *out)
{
	struct span authority = span_of(stream->authority), base = {0};
	const char *fragment = memchr(data.p, '#', data.n);

	if (fragment)
		data.n = (size_t)(fragment - data.p);
	if (!is_clean(data))
		return "it is empty, too long or no URI";
	if (begins(data, scheme)) {
		data = (struct span){data.p + scheme.n, data.n - scheme.n};
		if (!begins(data, authority) ||
		    (data.n > authority.n && !memchr("/?", data.p[authority.n], 2)))
			return "it is of another origin";
		data = (struct span){data.p + authority.n, data.n - authority.n};
		if (data.n == 0 || data.p[0] != '/')
			base = SPAN("/");
	} else if (begins(data, SPAN("//"))) {
		return "it is of another origin";
	} else if (data.p[0] != '/') {
		/* A colon before any slash would be a scheme. */
		const char *colon = memchr(data.p, ':', data.n), *end = memchr(data.p, '/', data.n);
		if (colon && (!end || colon < end) && data.p[0] != '?')
			return "it is of another origin";
		base = base_of(stream, data);
	}
	if (buffer_append(out, base.p ? base.p : "", base.n, 2 * ENDPOINT_MAX) ||
	    buffer_append(out, data.p, data.n, 2 * ENDPOINT_MAX) ||
	    buffer_append(out, "", 1, 2 * ENDPOINT_MAX))
		return "out of memory";
	return NULL;
}
