/*
 * handshake: how a client connection comes to speak TLS, before its first request.
 *
 * Made in the reads of the connection, within timeouts.client_header. One that fails is counted and
 * logged with its reason; who speaks plain HTTP is told what is wrong.
 */
#ifndef MARGAY_WORKER_HTTP_HANDSHAKE_H
#define MARGAY_WORKER_HTTP_HANDSHAKE_H

#include <stdbool.h>

struct conn;
struct tls_server;

/* On a connection that was opened just now; it is closed when memory is short. */
void handshake_begin(struct conn *c, struct tls_server *server);
/* Before a read while c->securing: whether this turn of the loop has time for it. Else the next. */
bool handshake_turn(struct conn *c);
/* After it. False when there is nothing to serve, yet or ever. */
bool handshake_step(struct conn *c);
void handshake_failed(struct conn *c);

#endif
