/* link: see link.h. */
#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/ipc/wire.h"
#include "common/raw.h"
#include "master/keeper/peer.h"

enum { HELD_BYTES_MAX = 256 * 1024, KEPT_MAX = 16 * 1024 * 1024 };

static const double held_patience = 10; /* seconds */

bool text_add(struct text_list *list, unsigned *count, unsigned max, struct span text)
{
	struct text *t = *count < max ? malloc(sizeof(*t) + text.n) : NULL;

	if (!t)
		return false;
	t->since = clock_coarse();
	t->n = text.n;
	memcpy(t->p, text.p, text.n);
	TAILQ_INSERT_TAIL(list, t, link);
	*count += 1;
	return true;
}

struct text *text_find(const struct text_list *list, struct span text)
{
	struct text *t;

	TAILQ_FOREACH (t, list, link) {
		if (span_equal((struct span){t->p, t->n}, text))
			return t;
	}
	return NULL;
}

void text_free(struct text_list *list, unsigned *count, struct text *t)
{
	TAILQ_REMOVE(list, t, link);
	*count -= 1;
	free(t);
}

static void texts_free(struct text_list *list, unsigned *count)
{
	while (!TAILQ_EMPTY(list))
		text_free(list, count, TAILQ_FIRST(list));
}

struct link *link_find(struct instance *i, const struct session_id *session)
{
	struct link *l;

	HASH_FIND(hh, i->links, session, sizeof(*session), l);
	return l;
}

struct link *link_get(struct instance *i, const struct session_id *session)
{
	struct link *l = link_find(i, session);

	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->session = *session;
	l->instance = i;
	TAILQ_INIT(&l->outlets);
	TAILQ_INIT(&l->uris);
	TAILQ_INIT(&l->asks);
	TAILQ_INIT(&l->held);
	HASH_ADD(hh, i->links, session, sizeof(l->session), l);
	if (!link_find(i, session)) {
		free(l);
		return NULL;
	}
	i->fleet->sessions++;
	fleet_changed(i->fleet);
	return l;
}

void link_free(struct link *l)
{
	struct instance *i = l->instance;
	struct call *call, *next;

	HASH_ITER (hh, i->calls, call, next) {
		if (call->link != l)
			continue;
		/* Its answer will come and go to nobody. */
		call->link = NULL;
		i->requests--;
		if (call->peer)
			TAILQ_REMOVE(&call->peer->calls, call, by_peer);
		call->peer = NULL;
	}
	while (!TAILQ_EMPTY(&l->outlets))
		outlet_free(TAILQ_FIRST(&l->outlets));
	texts_free(&l->uris, &l->uri_count);
	texts_free(&l->asks, &l->ask_count);
	texts_free(&l->held, &l->held_count);
	HASH_DEL(i->links, l);
	i->fleet->sessions--;
	free(l);
}

/* --- across keepers
 * ------------------------------------------------------------------------------ */

/* One row: session, u16 length, URI. */
static int put_row(struct buffer *out, const struct link *l, const struct text *uri)
{
	uint16_t n = (uint16_t)uri->n;
	int error = uri->n > UINT16_MAX ? -EMSGSIZE : 0;

	if (!error)
		error = buffer_append(out, l->session.bytes, sizeof(l->session.bytes), KEPT_MAX);
	if (!error)
		error = buffer_append(out, &n, sizeof(n), KEPT_MAX);
	return error ? error : buffer_append(out, uri->p, uri->n, KEPT_MAX);
}

void links_keep(struct instance *i)
{
	struct buffer rows = {0};
	const struct link *l;
	const struct text *uri;
	int error = 0;

	for (l = i->links; l && !error; l = l->hh.next) {
		TAILQ_FOREACH (uri, &l->uris, link) {
			if ((error = put_row(&rows, l, uri)))
				break;
		}
	}
	if (!error)
		error = page_write_subscriptions(i->page_fd, i->page, buffer_span(&rows));
	if (error)
		LOG(i->keeper->log, LOG_LEVEL_WARN, "subscriptions would not outlive the keeper",
		    LOG_STR("upstream", i->fleet->name), LOG_ERRNO(-error));
	buffer_release(&rows);
}

int links_restore(struct instance *i)
{
	struct buffer rows = {0};
	struct session_id session;

	int error = page_read_subscriptions(i->page_fd, i->page, &rows);
	struct wire_reader r = {.p = buffer_span(&rows).p, .length = buffer_length(&rows)};
	while (!error && r.offset < r.length) {
		wire_get_bytes(&r, session.bytes, sizeof(session.bytes));
		struct span uri = wire_get_string(&r);
		struct link *l = r.error ? NULL : link_get(i, &session);
		if (!l || !text_add(&l->uris, &l->uri_count, LINK_URIS_MAX, uri))
			error = r.error ? -EPROTO : -ENOMEM;
	}
	buffer_release(&rows);
	return error;
}

void link_end_streams(struct link *l)
{
	struct outlet *o;

	while ((o = TAILQ_FIRST(&l->outlets))) {
		peer_tell(o->peer, KEEPER_ENDED, o->request, l->instance->id, NULL, 0);
		outlet_free(o);
	}
}

struct outlet *outlet_create(struct link *l, struct peer *p, uint32_t request)
{
	struct outlet *o = l->outlet_count < LINK_OUTLETS_MAX ? calloc(1, sizeof(*o)) : NULL;

	if (!o)
		return NULL;
	o->session = l;
	o->peer = p;
	o->request = request;
	l->outlet_count++;
	TAILQ_INSERT_TAIL(&l->outlets, o, link);
	TAILQ_INSERT_TAIL(&p->outlets, o, by_peer);
	return o;
}

void outlet_free(struct outlet *o)
{
	o->session->outlet_count--;
	TAILQ_REMOVE(&o->session->outlets, o, link);
	TAILQ_REMOVE(&o->peer->outlets, o, by_peer);
	free(o);
}

bool link_hold(struct link *l, struct span message)
{
	if (l->held_bytes + message.n > HELD_BYTES_MAX ||
	    !text_add(&l->held, &l->held_count, LINK_HELD_MAX, message))
		return false;
	l->held_bytes += message.n;
	return true;
}

static void unhold(struct link *l, struct text *t)
{
	l->held_bytes -= t->n;
	text_free(&l->held, &l->held_count, t);
}

void link_release(struct link *l)
{
	struct outlet *o = TAILQ_FIRST(&l->outlets);
	struct text *t;

	while (o && (t = TAILQ_FIRST(&l->held))) {
		struct span message = {t->p, t->n};
		peer_tell(o->peer, KEEPER_MESSAGE, o->request, l->instance->id, &message, 1);
		unhold(l, t);
	}
}

void link_expire(struct link *l, double now)
{
	struct instance *i = l->instance;
	struct span id;
	struct text *t;

	while ((t = TAILQ_FIRST(&l->held)) && now - t->since >= held_patience) {
		struct span message = {t->p, t->n};
		/* It was scanned when it came; answers are not held. */
		if (raw_member(message, "id", &id))
			deliver_refuse(
			    i, id, -32603, "the client has no stream open to be asked on");
		else
			noise_dropped(i, METRIC_DROP_NO_SESSION, message);
		unhold(l, t);
	}
}
