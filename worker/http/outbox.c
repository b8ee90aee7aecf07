/* outbox: see outbox.h. */
#include "worker/http/outbox.h"

struct span outbox_put(struct outbox *o, const struct gather *g)
{
	struct span kept = {o->bytes + o->used, g->length};

	if (g->length > OUTBOX_ANSWER_MAX || g->length > OUTBOX_SIZE - o->used)
		return (struct span){0};
	for (unsigned i = 0; i < g->count; i++) {
		memcpy(o->bytes + o->used, g->pieces[i].iov_base, g->pieces[i].iov_len);
		o->used += g->pieces[i].iov_len;
	}
	return kept;
}

void outbox_reset(struct outbox *o)
{
	o->used = 0;
}
