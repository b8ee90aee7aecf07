/*
 * activation: the descriptors that the service manager passed at the start (sd_listen_fds(3)): the
 * sockets that it bound for us, and what an earlier master put into its store (store.h).
 *
 * They become the heritage of this master, as if another had handed them over. A socket that the
 * configuration does not name is refused: somebody expects it to be served. What comes from the
 * store and is of no use is closed: it must never keep Margay from starting.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_ACTIVATION_H
#define MARGAY_MASTER_SUPERVISOR_ACTIVATION_H

#include <stddef.h>
#include <sys/types.h>

#include "common/attributes.h"
#include "common/config/config.h"
#include "master/supervisor/store.h"

struct supervisor;

enum { ACTIVATION_FIRST = 3, ACTIVATION_MAX = 4096 };

struct activated {
	int fd; /* -1: taken, or closed */
	char name[STORE_ANY_NAME_MAX];
};

struct activation {
	struct activated *rows;
	size_t count;
};

/*
 * What the three variables say (NULL or empty: not there) to the process `self`: nothing when they
 * are for another. 0, -EINVAL when they make no sense, or -ENOMEM; then there is nothing to close.
 */
int activation_parse(const char *pid, const char *fds, const char *names, pid_t self,
    struct activation *out) MUST_CHECK;
/* As the environment says, where the variables are empty then. 0, or -errno with `why` filled. */
int activation_take(struct activation *a, char *why, size_t size) MUST_CHECK;
/* Make s->heritage of it, unless the processes of another master go on. All is taken or closed. An
 * exit code, 0 when all is well; else stderr says why. */
int activation_bequeath(struct supervisor *s, const struct config *config);
void activation_close(struct activation *a);
/* A generation serves: warn of addresses where only the service manager listens now. */
void activation_check(const struct supervisor *s);

#endif
