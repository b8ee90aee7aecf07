/*
 * admin: /metrics, /healthz and /readyz on the admin listener.
 *
 * Any worker answers for all of Margay: the metrics segment is shared.
 */
#ifndef MARGAY_WORKER_ADMIN_ADMIN_H
#define MARGAY_WORKER_ADMIN_ADMIN_H

#include "worker/http/conn.h"

extern const struct conn_handler admin_handler;

#endif
