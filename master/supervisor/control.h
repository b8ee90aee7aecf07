/*
 * control: the control socket (docs/control-socket.md). See supervisor.h.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_CONTROL_H
#define MARGAY_MASTER_SUPERVISOR_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/attributes.h"

struct child;
struct cJSON;
struct control;
struct supervisor;

/* `fd`: a listening socket to take over, or -1. */
int control_open(struct supervisor *s, int fd, struct control **out) MUST_CHECK;
int control_fd(const struct control *c);
/* Take no new client, or take them again. */
void control_pause(struct control *c, bool paused);
/* The upgrade or rollback is over: answer those who wait for it. */
void control_upgrade_done(struct control *c, bool ok, const char *message);
/* Another master serves: so it is over, and nobody else can be served here. */
void control_retire(struct control *c, bool ok, const char *message);
void control_close(struct control *c);
/* The reload is over: answer those who wait for it. */
void control_reload_done(struct control *c);
/* The keeper answered. The report is taken over; NULL: it is not JSON. */
void control_report(struct control *c, uint32_t request, struct cJSON *report);
/* A replacement is over, or takes too long to wait for it: answer those who do. */
void control_replaced(struct control *c, const struct child *child, bool ok, const char *how);

#endif
