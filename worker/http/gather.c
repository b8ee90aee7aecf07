/* gather: see gather.h. */
#include "worker/http/gather.h"

bool gather_add(struct gather *g, struct span bytes)
{
	if (bytes.n == 0)
		return true;
	if (g->count == GATHER_PIECES)
		return false;
	g->pieces[g->count++] = (struct iovec){.iov_base = (char *)bytes.p, .iov_len = bytes.n};
	g->length += bytes.n;
	return true;
}

bool gather_copy(struct gather *g, struct span bytes)
{
	if (bytes.n == 0)
		return true;
	if (bytes.n > GATHER_TEXT - g->text_used)
		return false;
	char *at = g->text + g->text_used;
	struct iovec *last = g->count > 0 ? &g->pieces[g->count - 1] : NULL;
	bool extends = last && (char *)last->iov_base + last->iov_len == at;
	if (!extends && g->count == GATHER_PIECES)
		return false;
	memcpy(at, bytes.p, bytes.n);
	g->text_used += bytes.n;
	if (!extends)
		return gather_add(g, (struct span){at, bytes.n});
	last->iov_len += bytes.n;
	g->length += bytes.n;
	return true;
}

void gather_reset(struct gather *g)
{
	g->count = 0;
	g->length = 0;
	g->text_used = 0;
}
