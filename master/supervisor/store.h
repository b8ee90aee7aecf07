/*
 * store: what the service manager keeps for the next master, in case that this one dies with all
 * its processes (sd_notify(3), FDSTORE): listeners with whoever waits in their queues, the session
 * journal, the key of session ids. activation.h is the way back.
 *
 * Each has a name, and the store is kept in step with what serves. An address that the service
 * manager bound is not in it: that one it has already. A manager without a store ignores all this.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_STORE_H
#define MARGAY_MASTER_SUPERVISOR_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "common/address.h"
#include "common/config/config.h"

struct supervisor;

#define STORE_LISTENER "listener-" /* and the address */
#define STORE_JOURNAL  "journal-"  /* and 0 or 1 */
#define STORE_KEY      "session-key"

enum { STORE_NAME_MAX = sizeof(STORE_LISTENER) + ADDRESS_TEXT_MAX };
enum { STORE_ANY_NAME_MAX = 256 }; /* whoever gave it */
/* The listeners of two configurations, both journals, the key. */
enum { STORE_ROWS = 2 * (CONFIG_LISTENS_MAX + 1) + 3 };

struct store_row {
	char name[STORE_NAME_MAX];
	bool told, wanted;
};

struct store {
	struct store_row rows[STORE_ROWS];
	size_t count;
	bool
	    handed; /* another master began it, and says in a moment that we are the main process */
	double rests_until; /* clock_coarse() */
};

/* "listener-127.0.0.1-8080", "listener-[--1]-8080": no name in a store has a colon. */
void store_listener_name(const struct sockaddr_storage *storage, char name[STORE_NAME_MAX]);
/* Another master hands over, which has put its listeners into the store. */
void store_know(struct supervisor *s);
/* Whatever the store has under a name is of no use. */
void store_remove(struct supervisor *s, const char *name);
/* Tell the manager what changed: at the end of every turn of the loop. */
void store_update(struct supervisor *s);
/* This master ends as it should: the next one begins anew. */
void store_clear(struct supervisor *s);

#endif
