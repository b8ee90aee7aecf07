/* calls: requests in flight on the pipe of a child. See instance.h. */
#include <stdlib.h>

#include "master/keeper/peer.h"

struct call *call_create(struct instance *i, struct peer *p, struct link *link, uint32_t request,
    enum call_kind kind, struct span id, struct span token)
{
	struct call *call = calloc(1, sizeof(*call) + id.n + token.n), *added;

	if (!call)
		return NULL;
	call->instance = i;
	call->link = link;
	call->number = ++i->keeper->last_number;
	call->request = request;
	call->kind = kind;
	call->id_length = (unsigned)id.n;
	call->token_length = (unsigned)token.n;
	if (id.n > 0)
		memcpy(call->text, id.p, id.n);
	if (token.n > 0)
		memcpy(call->text + id.n, token.p, token.n);
	HASH_ADD(hh, i->calls, number, sizeof(call->number), call);
	HASH_FIND(hh, i->calls, &call->number, sizeof(call->number), added);
	if (!added) {
		free(call);
		return NULL;
	}
	if (p) {
		call->peer = p;
		TAILQ_INSERT_TAIL(&p->calls, call, by_peer);
	}
	if (link) {
		link->requests++;
		i->requests++;
	}
	return call;
}

void call_free(struct call *call)
{
	struct instance *i = call->instance;

	if (call->peer)
		TAILQ_REMOVE(&call->peer->calls, call, by_peer);
	if (call->link) {
		call->link->requests--;
		i->requests--;
	}
	HASH_DEL(i->calls, call);
	free(call);
}

void call_fail(struct call *call, enum metric_reason reason, const char *why)
{
	if (call->peer)
		peer_fail(call->peer, call->request, reason, why);
	call_free(call);
}

void calls_fail(struct instance *i, const char *why)
{
	struct fleet *f = i->fleet;
	struct call *call, *next;

	HASH_ITER (hh, i->calls, call, next) {
		if (call->kind == CALL_REQUEST || (call->kind == CALL_ASK && !call->listens)) {
			f->lost++;
			METRIC_ADD(i->keeper->metrics, CHILD_CALLS_LOST, 1, f->metrics_id);
		}
		call_fail(call, METRIC_REASON_CLOSED, why);
	}
}
