/* streams: see streams.h. One row per session that has a stream open here. */
#include "worker/mcp/streams.h"

#include <errno.h>
#include <stdlib.h>
#include <uthash.h>

struct stream_count {
	struct session_id id;
	unsigned open;
	UT_hash_handle hh;
};

struct stream_counts {
	struct stream_count *rows;
};

int streams_open(struct stream_counts **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void streams_close(struct stream_counts *s)
{
	struct stream_count *row, *next;

	HASH_ITER (hh, s->rows, row, next) {
		HASH_DEL(s->rows, row);
		free(row);
	}
	free(s);
}

bool streams_acquire(struct stream_counts *s, const struct session_id *id, unsigned max)
{
	struct stream_count *row;

	HASH_FIND(hh, s->rows, id, sizeof(*id), row);
	if (!row) {
		row = calloc(1, sizeof(*row));
		if (!row)
			return false;
		row->id = *id;
		HASH_ADD(hh, s->rows, id, sizeof(row->id), row);
	}
	if (row->open >= max)
		return false;
	row->open++;
	return true;
}

void streams_release(struct stream_counts *s, const struct session_id *id)
{
	struct stream_count *row;

	HASH_FIND(hh, s->rows, id, sizeof(*id), row);
	if (!row || --row->open > 0)
		return;
	HASH_DEL(s->rows, row);
	free(row);
}
