/*
 * listeners: the bound sockets of every configured address, LISTENER_SLOTS each (architecture.md,
 * slots).
 *
 * An address is bound once and kept as long as some generation uses it; a generation's view of it
 * (listener_set) shares the descriptors. Nobody accepts here.
 *
 * A listener that is closed resets whoever is in its queue. So an address that goes first drops
 * what wants to connect, by a filter on its sockets that lets handshakes under way come to their
 * end; it stops listening when its queues are empty, and is closed with its last generation.
 *
 * An address that the service manager bound (activation.h) is the manager's too, which listens
 * whatever happens here: its sockets are not changed. When it goes, its workers empty the queue
 * once more, and who comes later waits there; when it comes back, they are served. It is held to
 * the end, since it could not be bound again.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_LISTENERS_H
#define MARGAY_MASTER_SUPERVISOR_LISTENERS_H

#include <ev.h>

#include "common/address.h"
#include "common/attributes.h"
#include "common/listener.h"

struct listeners;

/* What is to be known of an address beside its sockets. */
enum listeners_state {
	LISTENERS_LEAVING = 1,  /* nobody serves it any more */
	LISTENERS_ACTIVATED = 2 /* the service manager bound it */
};

/* One address: `fds` are its slots, or fewer where the service manager bound it. `state` is made of
 * enum listeners_state. */
typedef void listeners_visit(void *context, unsigned key, unsigned state,
    const struct sockaddr_storage *storage, const int *fds, unsigned count);

int listeners_open(struct listeners **out) MUST_CHECK;
void listeners_close(struct listeners *l);
/*
 * Find or bind all addresses of a configuration and fill `set`. 0, or -errno with a row added to
 * `errors` for each address that can't be bound; then `set` is empty and nothing stays bound that
 * was not before. Success takes one reference on each address.
 */
int listeners_acquire(struct listeners *l, const struct config *config, struct listener_set *set,
    struct config_errors *errors) MUST_CHECK;
/*
 * `set` serves from now on. An address that is not in it takes no new connection: its workers empty
 * its queues, and from then on it refuses. One that was leaving and is in the set is back.
 */
void listeners_commit(struct listeners *l, const struct listener_set *set, struct ev_loop *loop);
/* The rows of `old` whose address is not in `set`, as bits. */
uint32_t listeners_leaving(const struct listener_set *old, const struct listener_set *set);
/*
 * Refuse whoever connects from now on, at all addresses: for stopping, when nobody will accept any
 * more. A client is better told at once than left waiting in a queue.
 */
void listeners_refuse(struct listeners *l);
/* Give the references of a set back, which is empty then; addresses that nobody uses any more are
 * closed. */
void listeners_release(struct listeners *l, struct listener_set *set);

/* Visit every address that is bound, each under a key of its own. */
void listeners_each(const struct listeners *l, listeners_visit *visit, void *context);
/*
 * Take the bound sockets of an address over from another master or from the service manager; they
 * are found by listeners_acquire. All must listen (or leave) at one address, and share it if they
 * are many. They are taken if 0 is returned, else -EINVAL or -errno.
 */
int listeners_adopt(struct listeners *l, unsigned state, const int *fds, unsigned count) MUST_CHECK;
/* Close those taken over that no configuration uses, but for the service manager's. How many there
 * were; `name` is filled with the last one's address. */
unsigned listeners_close_unused(struct listeners *l, char name[ADDRESS_TEXT_MAX]);

/* Another master has them: nothing is done to them any more until listeners_commit. */
void listeners_retire(struct listeners *l);

#endif
