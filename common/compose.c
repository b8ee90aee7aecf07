/* compose: see compose.h. */
#include "common/compose.h"

#include <errno.h>
#include <stdio.h>

#include "common/escape.h"
#include "common/raw.h"

size_t compose_length(const struct compose *c)
{
	return buffer_length(c->out) + (c->cuts ? c->cuts->bytes : 0);
}

/* False when it is to be copied. */
static bool cut(struct compose *c, struct span raw)
{
	struct compose_cuts *cuts = c->cuts;

	if (!cuts || raw.n < RAW_LONG || cuts->count == COMPOSE_CUTS_MAX ||
	    raw_index_find(c->index, raw.p) != raw.n)
		return false;
	if (raw.n > c->bound - compose_length(c)) {
		c->error = -EMSGSIZE;
		return true;
	}
	cuts->rows[cuts->count].at = buffer_length(c->out);
	cuts->rows[cuts->count++].value = raw;
	cuts->bytes += raw.n;
	return true;
}

void compose_raw(struct compose *c, struct span raw)
{
	if (!c->error && !cut(c, raw))
		c->error =
		    buffer_append(c->out, raw.p, raw.n, c->bound - (c->cuts ? c->cuts->bytes : 0));
}

static void separate(struct compose *c)
{
	if (c->comma)
		compose_raw(c, SPAN(","));
	c->comma = true;
}

static void put_key(struct compose *c, struct span key)
{
	separate(c);
	compose_raw(c, SPAN("\""));
	compose_raw(c, key);
	compose_raw(c, SPAN("\":"));
}

void compose_key(struct compose *c, const char *key)
{
	put_key(c, span_of(key));
}

void compose_open(struct compose *c, char bracket)
{
	compose_raw(c, (struct span){&bracket, 1});
	c->comma = false;
}

void compose_close(struct compose *c, char bracket)
{
	compose_raw(c, (struct span){&bracket, 1});
	c->comma = true;
}

void compose_member(struct compose *c, const char *key, struct span raw)
{
	compose_key(c, key);
	compose_raw(c, raw);
}

void compose_text(struct compose *c, const char *key, struct span text)
{
	compose_key(c, key);
	compose_raw(c, SPAN("\""));
	if (!c->error)
		c->error = escape_append(c->out, text, c->bound - (c->cuts ? c->cuts->bytes : 0));
	compose_raw(c, SPAN("\""));
}

void compose_integer(struct compose *c, const char *key, long long value)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "%lld", value);

	compose_member(c, key, (struct span){text, (size_t)n});
}

void compose_element(struct compose *c, struct span raw)
{
	separate(c);
	compose_raw(c, raw);
}

static bool is_dropped(struct span key, const char *const *without)
{
	for (; without && *without; without++) {
		size_t n = strlen(*without);
		if (raw_key_is(key, *without) ||
		    ((*without)[n - 1] == '/' && raw_key_begins(key, *without)))
			return true;
	}
	return false;
}

void compose_members(struct compose *c, struct span object, const char *const *without)
{
	struct span key, value;

	while (raw_next_member_in(c->index, &object, &key, &value)) {
		if (is_dropped(key, without))
			continue;
		put_key(c, key);
		compose_raw(c, value);
	}
}
