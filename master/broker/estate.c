/*
 * estate: see estate.h. Between two turns of the loop, whatever is under way, so that no worker
 * notices. What can't be taken over is as after a death: its worker comes again.
 */
#include "master/broker/estate.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const double again = 0.02; /* seconds */

void broker_leave(struct broker *b)
{
	struct handover h = {0};

	clients_leave(b, &h);
	mail_leave(&b->mail, &h);
	changes_leave(&b->changes, &h);
	reaps_leave(b, &h);
	table_leave(&b->table, &h);
	int error = handover_leave(&h, b->boot->channel);
	handover_release(&h);
	if (!error) {
		log_flush(b->boot->log);
		_exit(EXIT_SUCCESS);
	}
	if (error != -EAGAIN)
		LOG(b->boot->log, LOG_LEVEL_WARN, "can't make room", LOG_ERRNO(-error));
	ev_timer_stop(b->loop, &b->leave);
	ev_timer_set(&b->leave, error == -EAGAIN ? again : 1, 0);
	ev_timer_start(b->loop, &b->leave);
}

/* --- taking over
 * ------------------------------------------------------------------------------------ */

static struct client *client_of(const struct broker *b, int32_t index)
{
	return index >= 0 && index < BROKER_CLIENTS ? b->clients[index] : NULL;
}

static void take_client(
    struct broker *b, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_client head;

	handover_head(record, &head, sizeof(head));
	int fd = handover_take(left, head.fd);
	if (fd < 0 || head.index < 0 || head.index >= BROKER_CLIENTS)
		return;
	if (head.protocol != BROKER_PROTOCOL || b->clients[head.index] ||
	    !client_add(b, (unsigned)head.index, fd, head.greeted))
		close(fd);
}

static void take_frame(
    struct broker *b, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_frame head;

	handover_head(record, &head, sizeof(head));
	struct client *c = client_of(b, head.client);
	int fd = handover_take(left, head.fd);
	if (c && record->texts[0].n == head.header.length)
		client_requeue(c, &head.header, record->texts[0].p, fd);
	else if (fd >= 0)
		close(fd);
}

static void take_box(
    struct broker *b, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_box head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	struct client *c = client_of(b, head.client);
	if (c && mail_box_open(&b->mail, &head.id, c))
		client_close(c); /* it opens all of its boxes anew */
}

static void take_change(
    struct broker *b, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_change head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	change_inherit(&b->changes, &head, client_of(b, head.maker));
}

static void take_reap(
    struct broker *b, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_reap head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	reap_inherit(b, head.cached, record->texts[0]);
}

static void take_session(
    struct broker *b, const struct handover_record *record, struct handover_reader *left)
{
	struct estate_session head;

	(void)left;
	handover_head(record, &head, sizeof(head));
	struct session *s = table_find(&b->table, &head.id);
	if (!s)
		return;
	s->cached = head.cached;
	table_touch(s, head.used);
}

static const struct {
	void (*take)(
	    struct broker *b, const struct handover_record *record, struct handover_reader *left);
	unsigned texts;
} rows[] = {
    [ESTATE_CLIENT] = {take_client, 0},
    [ESTATE_FRAME] = {take_frame, 1},
    [ESTATE_BOX] = {take_box, 0},
    [ESTATE_CHANGE] = {take_change, 0},
    [ESTATE_REAP] = {take_reap, 1},
    [ESTATE_SESSION] = {take_session, 0},
};

void broker_inherit(struct broker *b, struct handover_reader *left)
{
	struct handover_record record;

	while (handover_next(left, &record)) {
		if (record.type < sizeof(rows) / sizeof(rows[0]) && rows[record.type].take &&
		    record.count >= rows[record.type].texts)
			rows[record.type].take(b, &record, left);
	}
}
