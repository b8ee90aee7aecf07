/*
 * tls: the server's side of TLS on one client connection, in place of recv and sendmsg.
 *
 * A server is the certificate of a listener; a tls belongs to one conn and never closes its
 * descriptor. Nothing here waits. Reading takes at most TLS_RECORDS records a call; what OpenSSL
 * has read from the socket by then raises no event any more: tls_more says that it is there.
 *
 * There are no session tickets: every connection shows the certificate that serves now, and no key
 * that lives long can open what was recorded.
 */
#ifndef MARGAY_WORKER_HTTP_TLS_H
#define MARGAY_WORKER_HTTP_TLS_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/attributes.h"
#include "common/config/config.h"

struct tls;
struct tls_server;

enum tls_stage {
	TLS_HANDSHAKE,
	TLS_OPEN,
	TLS_UNUSED,  /* closed by the client before it said anything, as probes do */
	TLS_NOT_TLS, /* HTTP in plain */
	TLS_FAILED,
};

/* 0 or -errno. */
int tls_server_open(const struct config_tls *config, struct tls_server **out) MUST_CHECK;
void tls_server_close(struct tls_server *s);

/* On an accepted descriptor. NULL when memory is short. */
struct tls *tls_open(struct tls_server *s, int fd);
void tls_free(struct tls *t);
/* As recv and sendmsg on a non-blocking socket, errno too. The handshake is made in tls_read; what
 * was not taken by tls_write must be what is given to it next. */
ssize_t tls_read(struct tls *t, char *p, size_t n);
ssize_t tls_write(struct tls *t, const struct iovec *pieces, size_t count);
enum tls_stage tls_stage(const struct tls *t);
/* Why it failed. */
const char *tls_reason(const struct tls *t);
/* Whether tls_read has something that the socket does not announce. */
bool tls_more(const struct tls *t);
/* The events (EV_READ, EV_WRITE) that have to be watched for those that a conn wants; and those
 * that it is to act on when some came. */
int tls_wanted(const struct tls *t, int events);
int tls_came(const struct tls *t, int events);
/* Say that nothing more will be sent. As far as the socket takes it; harmless when that can't be
 * said any more, or was. */
void tls_end(struct tls *t);

#endif
