/* mail: see mail.h. */
#include "master/broker/mail.h"

#include <errno.h>
#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "master/broker/estate.h"

struct mail_box {
	UT_hash_handle hh;
	struct mail_box_id id;
	struct client *owner;
};

static struct mail_box *find(const struct mail *m, const struct mail_box_id *id)
{
	struct mail_box *box;

	HASH_FIND(hh, m->by_id, id, sizeof(*id), box);
	return box;
}

static void drop(struct mail *m, struct mail_box *box)
{
	HASH_DEL(m->by_id, box);
	free(box);
}

int mail_box_open(struct mail *m, const struct mail_box_id *id, struct client *owner)
{
	struct mail_box *box = find(m, id);

	if (box)
		return box->owner == owner ? 0 : -EEXIST;
	if (HASH_COUNT(m->by_id) >= MAIL_BOXES_MAX)
		return -ENOBUFS;
	box = calloc(1, sizeof(*box));
	if (!box)
		return -ENOMEM;
	box->id = *id;
	box->owner = owner;
	HASH_ADD(hh, m->by_id, id, sizeof(box->id), box);
	if (box->hh.tbl)
		return 0;
	free(box);
	return -ENOMEM;
}

void mail_box_close(struct mail *m, const struct mail_box_id *id, const struct client *owner)
{
	struct mail_box *box = find(m, id);

	if (box && box->owner == owner)
		drop(m, box);
}

struct client *mail_box_owner(const struct mail *m, const struct mail_box_id *id)
{
	const struct mail_box *box = find(m, id);

	return box ? box->owner : NULL;
}

void mail_leave(const struct mail *m, struct handover *h)
{
	const struct mail_box *box;

	for (box = m->by_id; box; box = box->hh.next) {
		struct estate_box head = {.id = box->id, .client = client_index(box->owner)};
		handover_put(h, ESTATE_BOX, &head, sizeof(head), NULL, 0);
	}
}

void mail_forget(struct mail *m, const struct client *owner)
{
	struct mail_box *box, *next;

	HASH_ITER (hh, m->by_id, box, next) {
		if (box->owner == owner)
			drop(m, box);
	}
}
